"""One file to many contexts, and from one to another."""

import os
import signal
import threading

import pytest

import contextree
from contextree.parent import spread
from tests.files import tools
from tests.files.tools import Gated, census
from tests.lab.poll import until

MB = 1 << 20


@pytest.fixture(scope="module")
def family(tree):
    """root -> a -> a1, a2 (-> a21); root -> b; root -> c -> c1: {name: context}."""
    found = {name: tree.local(name=name) for name in "abc"}
    for name in ("a1", "a2", "c1"):
        found[name] = found[name[0]].local(name=name)
    found["a21"] = found["a2"].local(name="a21")
    for context in found.values():
        context.call(abs, 1)
    return found


def traffic(tree):
    """Bytes written to each link of the root."""
    return {name: stats["bytes_out"] for name, stats in tree.stats()["links"].items()}


def test_a_plan_leaves_out_who_only_passes_on(tree, family):
    number = {name: context.id for name, context in family.items()}

    def plan(*names):
        return spread.plan(tree.engine, {number[name] for name in names})

    assert plan("b") == [[number["b"], True, []]]
    assert plan("a1") == [[number["a1"], True, []]], "frames go through a as they are"
    assert plan("a1", "a21") == [[number["a"], False, [[number["a1"], True, []], [number["a21"], True, []]]]]
    assert plan("a", "a21") == [[number["a"], True, [[number["a21"], True, []]]]]
    assert plan("b", "c1") == [[number["b"], True, []], [number["c1"], True, []]]


@pytest.mark.parametrize("size", [0, 10, 5 * MB])
def test_each_link_is_crossed_once_and_every_host_has_it(tree, family, tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "source").write_bytes(data)
    places = {}
    for name, context in family.items():
        (tmp_path / name).mkdir()
        context.call(os.chdir, str(tmp_path / name))
        places[name] = tmp_path / name
    before = traffic(tree)
    done = contextree.put_all(list(family.values()), tmp_path / "source", "target", fsync=False, mode=0o640)
    after = traffic(tree)
    assert done == dict.fromkeys(family.values(), (1, size, 0))
    for place in places.values():
        assert census(place) == {"target": data} and (place / "target").stat().st_mode & 0o777 == 0o640
    for name in ("a", "b", "c"):
        assert size <= after[name] - before[name] < size * 1.05 + 200_000, name  # modules, the first time


def test_a_folder_to_many(tree, family, tmp_path):
    (tmp_path / "source" / "sub").mkdir(parents=True)
    (tmp_path / "source" / "sub" / "file").write_bytes(os.urandom(MB))
    (tmp_path / "source" / "link").symlink_to("sub")
    for name, context in family.items():
        (tmp_path / name).mkdir()
        context.call(os.chdir, str(tmp_path / name))
    done = contextree.put_all(family.values(), tmp_path / "source", "top", fsync=False)
    assert set(done.values()) == {(2, MB, 0)}
    for name in family:
        assert census(tmp_path / name / "top") == census(tmp_path / "source")


def test_the_outcome_of_each_host_stands_beside_the_others(tree, family, tmp_path):
    """One cannot write, one is below it; one dies; the rest have it."""
    for name, context in family.items():
        (tmp_path / name).mkdir()
        context.call(os.chdir, str(tmp_path / name))
    (tmp_path / "a" / "target").mkdir()
    dying = family["a"].local(name="dying")
    dying.call(os.chdir, str(tmp_path))
    targets = [*family.values(), dying]

    def gate():
        os.kill(dying.pid, signal.SIGKILL)
        dying.wait(10)

    done = contextree.put_all(targets, Gated(b"x" * MB, gate, b"y" * MB), "target", fsync=False)
    error = done.pop(family["a"])
    assert isinstance(error, IsADirectoryError) and error.filename == "target"
    assert isinstance(done.pop(dying), contextree.ContextDied)
    assert set(done.values()) == {(1, 2 * MB, 0)} and len(done) == 6
    for name in family:
        if name != "a":
            assert census(tmp_path / name) == {"target": b"x" * MB + b"y" * MB}


def test_an_intermediate_that_dies_takes_its_subtree_with_it(tree, tmp_path):
    middle = tree.local(name="middle")
    below = [middle.local(name="one"), middle.local(name="two")]
    beside = tree.local(name="beside")
    for number, context in enumerate([beside, *below]):
        (tmp_path / str(number)).mkdir()
        context.call(os.chdir, str(tmp_path / str(number)))

    def gate():
        os.kill(middle.pid, signal.SIGKILL)
        middle.wait(10)

    done = contextree.put_all([beside, *below], Gated(b"x" * MB, gate, b"y" * MB), "target", fsync=False)
    assert done[beside] == (1, 2 * MB, 0)
    assert all(isinstance(done[context], contextree.ContextDied) for context in below)
    until(lambda: census(tmp_path) == {"0": None, "0/target": b"x" * MB + b"y" * MB, "1": None, "2": None},
          "those below to end")
    beside.shutdown()


def test_a_host_that_takes_nothing_is_given_up_and_the_others_have_it(tree, family, tmp_path):
    """Stopped in the middle: it sets the pace for ``stall`` seconds, and then no more."""
    stuck = [family["a"].local(name="stuck%d" % number) for number in range(2)]
    for name, context in [*family.items(), *[(each.name, each) for each in stuck]]:
        (tmp_path / name).mkdir()
        context.call(os.chdir, str(tmp_path / name))

    def gate():
        for each in stuck:
            os.kill(each.pid, signal.SIGSTOP)

    before = tools.peak()
    try:
        done = contextree.put_all([*family.values(), *stuck], Gated(b"x" * MB, gate, b"y" * 20 * MB), "target",
                                  fsync=False, stall=1.0)
        for each in stuck:
            assert isinstance(done.pop(each), contextree.CallTimeout)
        assert set(done.values()) == {(1, 21 * MB, 0)}
        assert tools.peak() - before < 60 * MB
    finally:
        for each in stuck:
            os.kill(each.pid, signal.SIGCONT)
    for each in stuck:
        assert each.call(abs, -1) == 1
        until(lambda each=each: census(tmp_path / each.name) == {}, "it to clean up")
        each.shutdown()


def test_a_source_that_fails_is_raised_and_leaves_nothing_anywhere(tree, family, tmp_path):
    for name, context in family.items():
        (tmp_path / name).mkdir()
        context.call(os.chdir, str(tmp_path / name))

    def gate():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        contextree.put_all(family.values(), Gated(b"x" * MB, gate), "target")
    with pytest.raises(contextree.TransferError, match="is a device"):
        contextree.put_all(family.values(), "/dev/zero", "target")
    with pytest.raises(FileNotFoundError):
        contextree.put_all(family.values(), tmp_path / "missing", "target")
    until(lambda: not [path for path in tmp_path.rglob("*") if path.is_file()], "the others to clean up")


def test_wrong_contexts_and_options_of_put_all(tree, family, router, tmp_path):
    assert contextree.put_all([], b"x", "target") == {}
    with pytest.raises(contextree.UsageError, match="of one tree"):
        contextree.put_all([family["a"], router.fork()], b"x", "target")
    with pytest.raises(contextree.UsageError, match="cannot resume"):
        contextree.put_all([family["a"]], b"x", "target", resume=True)
    with pytest.raises(TypeError):
        contextree.put_all([family["a"]], b"x", "target", nonsense=True)
    twice = contextree.put_all([family["a"], family["a"]], b"x", tmp_path / "target")
    assert twice == {family["a"]: (1, 1, 0)}
    dead = tree.fork()
    dead.kill()
    done = contextree.put_all([dead, family["b"]], b"x", tmp_path / "target")
    assert isinstance(done[dead], contextree.ContextDied) and done[family["b"]] == (1, 1, 0)


# -- from one context to another


@pytest.mark.parametrize("size", [0, 10, 3 * MB])
@pytest.mark.parametrize(("first", "second"), [("b", "c"), ("a1", "a2"), ("a1", "c1"), ("a", "a21"), ("a21", "a"),
                                               ("b", "b"), ("a21", "a1")])
def test_from_one_context_to_another(tree, family, tmp_path, first, second, size):
    data = os.urandom(size)
    (tmp_path / "source").write_bytes(data)
    before = traffic(tree)
    result = family[first].copy_to(tmp_path / "source", family[second], tmp_path / "target", fsync=False)
    after = traffic(tree)
    assert result == (1, size, 0)
    assert census(tmp_path) == {"source": data, "target": data}
    if first[0] == second[0] and size > MB:
        assert after[first[0]] - before[first[0]] < size / 4, "it does not come up to the root"
    assert not tree.engine.grants and not family["a"].call(grants)


def grants():
    return list(contextree.current_router().engine.grants)


def test_copies_of_folders_and_broken_ones(tree, family, tmp_path):
    (tmp_path / "top" / "sub").mkdir(parents=True)
    (tmp_path / "top" / "sub" / "file").write_bytes(bytes(MB))
    assert family["a1"].copy_to(tmp_path / "top", family["a2"], tmp_path / "copy", fsync=False) == (1, MB, 0)
    assert census(tmp_path / "copy") == census(tmp_path / "top")
    part = tmp_path / (".target.%s.part" % __import__("hashlib").sha256(b"target").hexdigest()[:8])
    for first, second in (("a1", "a2"), ("b", "c"), ("a", "a1"), ("a1", "a")):
        part.write_bytes(bytes(MB // 2))
        part.chmod(0o600)
        assert family[first].copy_to(tmp_path / "top/sub/file", family[second], tmp_path / "target", resume=True) == (
            1, MB, MB // 2)
        (tmp_path / "target").unlink()


def test_errors_of_a_copy_name_the_path_and_leave_nothing(tree, family, tmp_path):
    (tmp_path / "source").write_bytes(bytes(3 * MB))
    for first, second in (("a1", "a2"), ("b", "c"), ("a", "a1"), ("a1", "a"), ("b", "b")):
        with pytest.raises(FileNotFoundError) as caught:
            family[first].copy_to(tmp_path / "missing", family[second], tmp_path / "target")
        assert caught.value.filename == str(tmp_path / "missing")
        with pytest.raises(FileNotFoundError) as caught:
            family[first].copy_to(tmp_path / "source", family[second], tmp_path / "no" / "target")
        assert caught.value.filename == str(tmp_path / "no" / "target")
    assert list(census(tmp_path)) == ["source"]
    with pytest.raises(contextree.UsageError, match="of this tree"):
        family["a"].copy_to(tmp_path / "source", 5, "x")


def test_a_copy_whose_caller_gives_up_ends(tree, family, tmp_path):
    with open(tmp_path / "source", "wb") as file:
        file.truncate(500 * MB)
    for name in ("a1", "a2"):
        family[name].call(tools.without_tmpfile)
    with pytest.raises(contextree.CallTimeout):
        family["a1"].with_options(timeout=0.2).copy_to(tmp_path / "source", family["a2"], tmp_path / "target",
                                                       sparse=False)
    until(lambda: os.listdir(tmp_path) == ["source"], "it to end")


def test_contexts_may_put_and_get_too(tree, family, tmp_path):
    """Every context has the methods, for those below it."""
    assert family["a"].call(inside, family["a1"], str(tmp_path)) == (1, 3, b"abc")
    assert threading.active_count() < 100


def inside(context, folder):
    done = context.put(b"abc", folder + "/file")
    got = contextree.put_all([context], b"def", folder + "/other")
    assert got[context].size == 3
    return done.files, done.size, context.read_bytes(folder + "/file")
