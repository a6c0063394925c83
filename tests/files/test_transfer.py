"""put, get and read_bytes with real contexts of every kind."""

import io
import os
import shutil
import tempfile
import threading

import pytest

import contextree
from contextree.core import process
from tests.files import tools
from tests.files.tools import census
from tests.lab.poll import until

MB = 1 << 20


@pytest.fixture(scope="module", params=["local", "forked", "3.6, not trusted", "ssh", "two links away"])
def there(request, tree):
    """A context of each kind, with a folder there that it may write to: (context, folder)."""
    kind = request.param
    if kind == "ssh":
        sshd = request.getfixturevalue("sshd")
        context = tree.ssh("key", ssh_config=sshd.ssh_config, name="ssh")
    elif kind == "local":
        context = tree.local(name="plain")
    elif kind == "forked":
        context = tree.fork(name="forked")
    elif kind == "two links away":
        context = tree.local(name="middle").local(name="below")
    else:
        context = tree.grow(untrusted(request.getfixturevalue("pythons")["3.6"].argv))
    folder = context.call(tempfile.mkdtemp)
    yield context, folder
    context.call(shutil.rmtree, folder)
    context.shutdown()


def untrusted(argv):
    from contextree.connect.plan import PYTHON, Plan

    return Plan([PYTHON], "old", "other", python=list(argv), trusted=False)


@pytest.mark.parametrize("size", [0, 1, 70_000, 3 * MB + 1])
def test_what_is_put_can_be_got(there, tmp_path, size):
    context, folder = there
    data = os.urandom(size)
    source = tmp_path / "source"
    source.write_bytes(data)
    path = folder + "/file"
    for given in (str(source), source, data, io.BytesIO(data)):
        assert context.put(given, path, fsync=False) == (1, size, 0)
        assert names_there_of(context, folder) == ["file"]
        assert context.read_bytes(path) == data
        context.call(os.unlink, path)
    context.put(source, path)
    assert context.get(path, tmp_path / "copy") == (1, size, 0)
    target = io.BytesIO()
    assert context.get(path, target) == (1, size, 0)
    assert (tmp_path / "copy").read_bytes() == data == target.getvalue()
    context.call(os.unlink, path)


def names_there_of(context, folder):
    return sorted(context.call(os.listdir, folder))


def test_names_of_any_bytes(there, tmp_path):
    context, folder = there
    for name in ("a b", "new\nline", "caf\u00e9", "\udcff\udcfe", "-x", "\u65e5\u672c"):
        context.put(b"x" + os.fsencode(name), folder + "/" + name)
        assert context.read_bytes(folder + "/" + name) == b"x" + os.fsencode(name)
        context.get(folder + "/" + name, tmp_path / name)
        with pytest.raises(FileNotFoundError) as caught:
            context.get(folder + "/" + name + "!", tmp_path / "none")
        assert caught.value.filename == folder + "/" + name + "!"
    context.get(folder, tmp_path / "all")
    assert sorted(os.listdir(os.fsencode(tmp_path / "all"))) == sorted(
        os.fsencode(name) for name in os.listdir(tmp_path) if name != "all")
    context.call(shutil.rmtree, folder)
    context.call(os.mkdir, folder)


def test_a_folder_there_and_back(there, tmp_path):
    context, folder = there
    top = tmp_path / "top"
    (top / "empty").mkdir(parents=True)
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "sub" / "large").write_bytes(os.urandom(MB))
    (top / "sub" / "deep" / "small").write_text("small")
    (top / "none").write_bytes(b"")
    (top / "script").write_text("#!/bin/sh")
    (top / "script").chmod(0o755)
    (top / "link").symlink_to("sub/deep")
    os.utime(top / "sub", ns=(10, 10))
    done = context.put(top, folder + "/top", preserve=True, fsync=False)
    assert done == (5, MB + 5 + 9, 0)
    assert names_there_of(context, folder) == ["top"]
    assert context.get(folder + "/top", tmp_path / "back", preserve=True, fsync=False) == done
    assert census(tmp_path / "back") == census(top)
    assert (tmp_path / "back" / "script").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "back" / "sub").stat().st_mtime_ns == 10
    context.call(shutil.rmtree, folder + "/top")


@pytest.mark.parametrize(("source", "error"), [
    ("missing", FileNotFoundError), ("missing/file", FileNotFoundError), ("file/below", NotADirectoryError)])
def test_errors_of_get_are_the_systems_with_the_path_there(there, tmp_path, source, error):
    context, folder = there
    context.put(b"x", folder + "/file")
    with pytest.raises(error) as caught:
        context.get(folder + "/" + source, tmp_path / "none")
    assert caught.value.filename == folder + "/" + source
    assert isinstance(caught.value.__cause__, contextree.RemoteError)
    assert census(tmp_path) == {}


@pytest.mark.parametrize("size", [10, MB], ids=["small", "large"])
@pytest.mark.parametrize(("where", "error"), [
    ("", IsADirectoryError), ("missing/file", FileNotFoundError), ("file/below", NotADirectoryError)])
def test_errors_of_put_are_the_systems_with_the_path_there(there, where, error, size):
    context, folder = there
    context.put(b"x", folder + "/file")
    path = (folder + "/" + where).rstrip("/")
    with pytest.raises(error) as caught:
        context.put(bytes(size), path)
    assert caught.value.filename == path
    assert context.call(tools.there_is, folder) == {"file": b"x"}


def test_p_30_devices_are_no_source(there, tmp_path):
    context, _ = there
    with pytest.raises(contextree.TransferError, match="/dev/zero is a device"):
        context.get("/dev/zero", tmp_path / "none")
    with pytest.raises(contextree.TransferError, match="/dev/zero is a device"):
        context.put("/dev/zero", "/nowhere")
    assert census(tmp_path) == {}


def test_a_broken_put_and_a_broken_get_are_resumed(there, tmp_path):
    context, folder = there
    data = os.urandom(2 * MB)
    source = tmp_path / "source"
    source.write_bytes(data)
    # a part that is the beginning of the file, as a broken transfer leaves it
    part = ".copy.%s.part" % __import__("hashlib").sha256(b"copy").hexdigest()[:8]
    context.put(data[:MB], folder + "/" + part, mode=0o600)
    assert context.put(source, folder + "/copy", resume=True) == (1, 2 * MB, MB)
    assert context.read_bytes(folder + "/copy") == data
    assert "copy" in names_there_of(context, folder) and part not in names_there_of(context, folder)
    (tmp_path / part).write_bytes(data[:MB + 7])
    (tmp_path / part).chmod(0o600)
    assert context.get(folder + "/copy", tmp_path / "copy", resume=True) == (1, 2 * MB, MB + 7)
    (tmp_path / "copy").unlink()
    (tmp_path / part).write_bytes(b"not" + data[:MB])
    (tmp_path / part).chmod(0o600)
    assert context.get(folder + "/copy", tmp_path / "copy", resume=True) == (1, 2 * MB, 0)
    assert census(tmp_path) == {"source": data, "copy": data}
    assert context.put(b"small", folder + "/copy", resume=True) == (1, 5, 0)
    assert context.read_bytes(folder + "/copy") == b"small"
    context.call(os.unlink, folder + "/copy")


def test_holes_stay_holes_there(there, tmp_path):
    context, folder = there
    with open(tmp_path / "sparse", "wb") as file:
        file.write(b"begin")
        file.seek(20 * MB)
        file.write(b"middle")
        file.truncate(50 * MB)
    assert context.put(tmp_path / "sparse", folder + "/sparse").size == 50 * MB
    assert context.call(tools.allocated, folder + "/sparse") < MB
    context.get(folder + "/sparse", tmp_path / "back")
    assert tools.allocated(tmp_path / "back") < MB
    assert (tmp_path / "back").read_bytes() == (tmp_path / "sparse").read_bytes()
    context.call(os.unlink, folder + "/sparse")


# -- with one context


@pytest.mark.parametrize("options", [
    {"mode": "0644"}, {"mode": 0o10000}, {"mode": True}, {"preserve": "all"}, {"links": "follow"}, {"special": "copy"},
    {"max_size": -1}, {"max_size": "1M"}, {"progress": 5}, {"owner": -2}, {"owner": 1.5}, {"owner": "no-such-user"}],
    ids=repr)
def test_wrong_options_are_usage_errors(web, tmp_path, options):
    with pytest.raises(contextree.UsageError):
        web.put(b"x", tmp_path / "file", **options)
    assert census(tmp_path) == {}


@pytest.mark.parametrize(("source", "destination"), [(5, "/x"), (None, "/x"), ("", "/x"), ("a\0b", "/x"), (b"x", ""),
                                                     (b"x", None), (b"x", "a\0b"), (["x"], "/x")], ids=repr)
def test_wrong_paths_are_usage_errors(web, source, destination):
    with pytest.raises(contextree.UsageError):
        web.put(source, destination)
    if source != b"x":
        with pytest.raises(contextree.UsageError):
            web.get(source, "/nowhere")


def test_a_text_file_is_refused_and_nothing_is_left_there(web, tmp_path):
    with pytest.raises(contextree.UsageError, match="binary"):
        web.put(io.StringIO("text"), tmp_path / "file")
    with pytest.raises(contextree.UsageError, match="binary"):
        web.get("/etc/passwd", 5)
    until(lambda: census(tmp_path) == {}, "the other end to clean up")


def test_a_file_object_that_has_no_end_is_sent_as_it_comes(web, tmp_path):
    """/dev/zero as a file object says that it is empty: it was read into memory until that was full."""
    with open("/dev/zero", "rb") as zero, pytest.raises(contextree.TransferError, match="larger than max_size"):
        web.put(zero, tmp_path / "file", max_size=MB)
    assert census(tmp_path) == {}


def test_attributes_there(web, tmp_path):
    (tmp_path / "source").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "source").chmod(0o4750)
    os.utime(tmp_path / "source", ns=(5, 5))
    target = tmp_path / "target"
    web.put(tmp_path / "source", target)
    assert target.stat().st_mode & 0o7777 == 0o750
    web.put(tmp_path / "source", target, preserve=True)
    assert target.stat().st_mode & 0o7777 == 0o4750, "our own set-user-id bits are ours to give"
    assert target.stat().st_mtime_ns == 5
    web.get(target, tmp_path / "back", preserve=True)
    assert (tmp_path / "back").stat().st_mode & 0o7777 == 0o750, "those of others are not"
    web.put(tmp_path / "source", target, mode=0o604)
    assert target.stat().st_mode & 0o7777 == 0o604


def test_many_at_once_leave_the_main_thread_free(web, tmp_path):
    """A hundred transfers that wait, and one call, which does not wait for them."""
    gate = process.Waiter()
    count, started = 100, []
    done = []

    def hold():
        started.append(1)
        while not opened:
            gate.wait(0.05)

    opened = []

    def run(number):
        source = tools.Gated(b"a" * 100, hold, b"b" * 100)
        done.append(web.put(source, tmp_path / str(number), fsync=False))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(started) == count, "all transfers to be in their middle")
        assert web.call(abs, -1) == 1
        assert web.fork().call(abs, -2) == 2
    finally:
        opened.append(1)
        for thread in threads:
            thread.join()
    assert len(done) == count and all(path.read_bytes() == b"a" * 100 + b"b" * 100 for path in tmp_path.iterdir())
    for child in web.children:
        child.shutdown()


def test_300_mb_in_constant_memory(tree, tmp_path):
    """At both ends, in both directions; each process's peak is its own."""
    size = 300 * MB
    with tree.local(name="bulk") as bulk:
        bulk.put(b"x" * MB, tmp_path / "warm")
        bulk.get(tmp_path / "warm", tmp_path / "warm2")
        with open(tmp_path / "file", "wb") as file:
            for _ in range(300):
                file.write(os.urandom(4096) + bytes(MB - 4096))
        before = bulk.call(tools.peak)
        here = tools.peak()
        bulk.put(tmp_path / "file", tmp_path / "copy", fsync=False)
        os.unlink(tmp_path / "file")
        assert bulk.get(tmp_path / "copy", tmp_path / "file", fsync=False).size == size
        assert bulk.call(tools.peak) - before < 40 * MB
        assert tools.peak() - here < 40 * MB


def test_a_consumer_that_is_slow_holds_its_sender(web, tmp_path):
    """It has taken one piece and takes no more: the sender waits, with little in memory."""
    with open(tmp_path / "file", "wb") as file:
        file.truncate(200 * MB)
    gate = process.Waiter()
    first = process.Waiter()

    class Slow:
        size = 0

        def write(self, data):
            if not self.size:
                first.wake()
                gate.wait()
            self.size += len(data)

    slow = Slow()
    before, there = tools.peak(), web.call(tools.peak)
    thread = threading.Thread(target=web.get, args=(tmp_path / "file", slow), kwargs={"sparse": False})
    thread.start()
    try:
        assert first.wait(10)
        sent = until(lambda: settled(web), "the sender to wait")
        assert sent < 20 * MB
        assert tools.peak() - before < 40 * MB and web.call(tools.peak) - there < 40 * MB
    finally:
        gate.wake()
        thread.join()
    assert slow.size == 200 * MB


def settled(context):
    """The bytes that came from a context, once that is the same twice in a row."""
    link = context.engine.children[context.id].link
    before = link.bytes_in
    context.ping()
    return link.bytes_in if link.bytes_in - before < 1000 else 0


# -- progress


def test_progress_is_told(web, tmp_path):
    (tmp_path / "file").write_bytes(bytes(3 * MB))
    told = []
    for transfer in (lambda: web.put(tmp_path / "file", tmp_path / "copy", progress=lambda *args: told.append(args)),
                     lambda: web.get(tmp_path / "file", tmp_path / "copy", progress=lambda *args: told.append(args)),
                     lambda: web.copy_to(tmp_path / "file", web.children[0], tmp_path / "copy",
                                         progress=lambda *args: told.append(args))):
        if not web.children:
            web.fork(name="progress")
        told.clear()
        transfer()
        assert all(total == 3 * MB for _, total in told)
        assert [done for done, _ in told] == sorted(done for done, _ in told)
    web.children[0].shutdown()
    told.clear()
    web.put(b"12345", tmp_path / "copy", progress=lambda *args: told.append(args))
    assert told == [(5, 5)]
    told.clear()
    web.put(b"", tmp_path / "copy", progress=lambda *args: told.append(args))
    assert told == [(0, 0)]


def test_what_progress_raises_ends_the_transfer(web, tmp_path):
    (tmp_path / "file").write_bytes(bytes(3 * MB))

    def stop(done, total):
        raise ZeroDivisionError

    for transfer in (web.put, web.get):
        with pytest.raises(ZeroDivisionError):
            transfer(tmp_path / "file", tmp_path / "copy", progress=stop)
    until(lambda: list(census(tmp_path)) == ["file"], "the other end to clean up")


def test_a_bar_is_shown_on_a_terminal_alone(web, tmp_path, capfd):
    web.put(bytes(MB), tmp_path / "file", progress=True)
    assert capfd.readouterr() == ("", "")
    from rich.console import Console

    from contextree.master.progress import bar

    out = io.StringIO()
    shown = bar("na\x1bme", Console(file=out, force_terminal=True, width=100))
    shown.tell(1 << 19, MB)
    shown.tell(MB, MB)
    shown.close()
    assert "na\\x1bme" in out.getvalue() and "1.0" in out.getvalue()
