"""The bundle on every Python that a target may have: the same suite inside a child of each, with warnings as errors."""

import json
import os
import platform
import re
import textwrap

import pytest

import contextree
from contextree.core.wire.errors import VersionError
from tests.lab import processes
from tests.lab.poll import until
from tests.matrix import lab, remote
from tests.wire.samples import PARIS, PLAIN, canon

NOTE = b"contents of the parcel\n"
LABEL = "parcel:w\u00f6rd"
SHARE = ["tests.matrix.parcel.*"]
ALL = pytest.mark.parametrize("minor", lab.MINORS, scope="module")


@pytest.fixture
def said():
    """What contexts wrote; nothing may be on stderr."""
    with lab.recorded() as records:
        yield records


@pytest.fixture(scope="module")
def kept(minor, pythons):
    """A context in a Python of that version that is not trusted, for all tests that leave it as it is. The threads
    and processes that are started once, when they are first needed, are there."""
    with lab.recorded() as records, lab.grown(pythons[minor].argv, share=SHARE) as context:
        context.call(remote.warm)
        records.wait("target.stdout", "a line from " + minor)
        yield context


@pytest.fixture
def child(kept, said):
    """That one; nothing comes on its stderr during the test."""
    return kept


@pytest.fixture
def fresh(minor, pythons, said):
    """A new one."""
    with lab.grown(pythons[minor].argv, share=SHARE) as context:
        yield context


def version(minor):
    return tuple(int(part) for part in minor.split("."))


@ALL
def test_child_boots_and_runs_the_standard_library(child, minor):
    assert child.facts["version"][:2] == version(minor)
    assert child.call(platform.python_version).startswith(minor)
    assert child.call(json.dumps, {"a": [1, None]}) == '{"a": [1, null]}'
    assert child.call(textwrap.shorten, "a b c", width=3, placeholder="") == "a b"
    assert child.call(os.getpid) == child.pid == child.call(remote.where)[2]


@ALL
def test_child_imports_modules_and_packages_of_the_master_with_their_data(child):
    assert child.call(remote.parcel) == (LABEL, NOTE)
    assert child.call(remote.modules)["tests.matrix.remote"] == "master:tests/matrix/remote.py"


@ALL
def test_child_raises_with_its_traceback(child):
    with pytest.raises(KeyError) as caught:
        child.call(remote.fail, "key")
    assert caught.value.args == ("deliberate", 5)
    assert 'raise KeyError("deliberate", 5)' in caught.value.__cause__.traceback
    with pytest.raises(FileNotFoundError) as caught:
        child.call(remote.fail, "os")
    assert caught.value.filename == "/nowhere/at all"
    with pytest.raises(contextree.RemoteError) as caught:
        child.call(remote.fail, "own")
    trace = caught.value.traceback
    assert trace.index("ValueError: the cause") < trace.index("direct cause") < trace.index("OwnError: the effect")
    assert child.call(remote.where)[0] == child.facts["version"][:2]


@ALL
def test_every_codec_type_goes_there_and_comes_back(child):
    zone = child.call(remote.has_zone, PARIS.key)
    values = [value for value in PLAIN if zone or getattr(value, "tzinfo", None) is not PARIS]
    answer = child.call(remote.echo, values)
    assert [canon(value) for value in answer] == [canon(value) for value in values]


@ALL
def test_stream_channel_of_results(child):
    with child.stream(remote.count, 3000) as stream:
        assert list(stream) == list(range(3000))
    with child.stream(remote.count, 10**9) as stream:
        assert next(stream) == 0  # and it is closed there


@ALL
def test_20_megabytes_go_there_and_come_back(child):
    data = os.urandom(1 << 20) * 20
    assert child.call(remote.echo, data) == data
    parts = {"bytes": data[:1 << 20], "text": "0123456789abcdef" * 100000}
    assert child.call(remote.echo, parts) == parts


@ALL
def test_log_records_and_lines_come_up(child, minor, said):
    child.call(remote.speak)
    said.wait("contextree.target", "a record from " + minor)
    said.wait("target.stdout", "a line from " + minor)


@ALL
@pytest.mark.parametrize("method", ["local", "fork", "direct"])
def test_child_has_children_of_the_same_python(child, minor, method):
    found = child.call(remote.nest, method)
    assert found[0][0] == version(minor) and found[0][2] != child.pid
    assert found[1:3] == [True, (LABEL, NOTE)]
    if method == "fork":  # a fork of a fork
        assert found[3][0][0] == version(minor) and found[3][1:] == [True, (LABEL, NOTE)]
    assert child.call(remote.main_thread)
    until(lambda: not child.children, "its child to be forgotten")


@ALL
def test_child_has_a_child_of_another_python(child, minor, pythons):
    if pythons[minor].origin == "chroot":  # it sees those in the chroot alone
        other = "3.15" if minor == "3.14" else "3.14"
        python = pythons[other].argv[2:]
    else:
        other = lab.MINORS[lab.MINORS.index(minor) - 1]
        other = "3.6" if pythons[other].origin == "chroot" else other
        python = pythons[other].argv
    found = child.call(remote.nest, "local", list(python))
    assert found[0][0] == version(other)
    assert found[1:] == [True, (LABEL, NOTE)]


@ALL
def test_child_shows_its_stacks(fresh):
    stacks = fresh.dump()
    names = re.findall(r"^Thread \d+ \((.*)\):$", stacks, re.MULTILINE)
    assert len(names) == 3 and {"MainThread", "the loop"} < set(names)  # and the one that looks
    main = stacks[:stacks.index("in wait")].rindex("Thread ")
    assert "(MainThread)" in stacks[main:stacks.index("in wait")]
    assert fresh.call(remote.main_thread)


@ALL
def test_child_ends_when_it_is_shut_down(fresh):
    who = processes.identity(fresh.pid)
    fresh.shutdown()
    assert not processes.alive(who)
    with pytest.raises(contextree.ContextDied):
        fresh.call(os.getpid)


@ALL
def test_idle_child_has_two_threads(fresh):
    assert fresh.call(remote.echo, 1) == 1
    assert len(os.listdir("/proc/%d/task" % fresh.pid)) == 2


@ALL
def test_nothing_is_imported_from_the_login_directory(minor, pythons, said):
    python = pythons[minor]
    with lab.directory(python) as (path, inside):
        lab.fill_with_hostile_modules(path)
        start = lab.shell(python, 'cd "$1" && shift && exec "$@"', inside)
        with lab.grown(start, share=SHARE) as child:
            assert child.call(remote.state)["cwd"] == inside
            assert child.call(remote.parcel) == (LABEL, NOTE)
            assert child.call(remote.attempt, ["logging", "json", "pickle", "socket", "decimal", "tempfile"]) == {}
            assert child.call(remote.nest, "fork")[1] is True
            assert [entry for entry in child.call(remote.path) if not entry.startswith("/") or entry == inside] == []
            assert [name for name, file in child.call(remote.modules).items() if (file or "").startswith(inside)] == []


def test_python_below_36_gets_one_sentence(pythons, said):
    if "2.7" not in pythons:
        pytest.skip("no Python 2.7 on this machine")
    with lab.directory(pythons["2.7"]) as (path, inside), contextree.Router() as router:
        lab.fill_with_hostile_modules(path)
        start = lab.shell(pythons["2.7"], 'cd "$1" && shift && exec "$@"', inside)
        with pytest.raises(VersionError) as caught:
            router.grow(lab.plan(start, {"PYTHONWARNINGS": "error"}))
    sentence = "Python 3.6 or newer is needed there, this is %s" % pythons["2.7"].version
    assert str(caught.value) == "target, from master, phase boot: " + sentence
    assert said.of("target.login") == ["contextree: " + sentence]
