"""What is left when a transfer fails: nothing under the name, and nothing beside it. Ends that die, disks that are
full, folders that may not be written, callers that give up."""

import errno
import os
import pwd
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

import contextree
from contextree.core import process
from tests.files import tools
from tests.files.tools import Gated, census
from tests.lab.poll import until

MB = 1 << 20
ROOT = Path(__file__).resolve().parents[2]


def kill(context):
    os.kill(context.pid, signal.SIGKILL)


@pytest.mark.parametrize("first", [0, 100, 3 * MB], ids=["before the first byte", "in a small file", "in a large file"])
@pytest.mark.parametrize("old", [None, b"old"], ids=["new", "replacing"])
def test_a_context_killed_in_the_middle_of_a_put_leaves_nothing(tree, tmp_path, first, old):
    context = tree.fork()
    if old:
        (tmp_path / "target").write_bytes(old)
    with pytest.raises(contextree.ContextDied):
        context.put(Gated(b"a" * first, lambda: kill(context), b"b" * MB), tmp_path / "target")
    context.wait(10)
    assert census(tmp_path) == ({"target": old} if old else {})


def test_a_context_killed_at_any_moment_leaves_the_old_file_or_the_new_one(tree, tmp_path):
    """Twenty kills spread over the time that a whole transfer takes, the rename and the syncs of the disk too."""
    target = tmp_path / "target"
    old, new = b"old" * MB, b"new" * MB
    with tree.fork() as context:
        context.put(old, target)
        start = time.monotonic()
        context.put(new, target)
        took = time.monotonic() - start
    for step in range(20):
        target.write_bytes(old)
        context = tree.fork()
        context.call(abs, 1)
        timer = threading.Timer(took * step / 16, kill, [context])
        timer.start()
        try:
            context.put(new, target)
            done = True
        except contextree.ContextDied:
            done = False
        timer.join()
        context.wait(10)
        content = target.read_bytes()
        assert content == new or (content == old and not done)
        # a link under a temporary name that SIGKILL found before its rename, a moment in a transfer
        assert len(list(tmp_path.iterdir())) <= 1 + step
        for path in tmp_path.glob(".target.*.part"):
            path.unlink()


@pytest.mark.parametrize("first", [0, 100, 3 * MB])
def test_a_context_killed_in_the_middle_of_a_get_leaves_nothing(tree, tmp_path, first):
    """The source there is a file that has no end for us: a pipe would be refused, so one larger than what fits."""
    context = tree.fork()
    with open(tmp_path / "source", "wb") as file:
        file.truncate(100 * MB)
    seen = []

    def progress(done, total):
        if done >= first and not seen:
            seen.append(done)
            kill(context)

    with pytest.raises(contextree.ContextDied):
        context.get(tmp_path / "source", tmp_path / "target", progress=progress, sparse=False)
    context.wait(10)
    assert os.listdir(tmp_path) == ["source"]


MASTER = """
import os, sys
import contextree
from tests.files import tools

def gate():
    print("ready", flush=True)
    sys.stdin.readline()

router = contextree.Router()
context = router.local() if sys.argv[2] == "local" else router.fork()
if sys.argv[3] == "named":
    context.call(tools.without_tmpfile)
target = sys.argv[1]
what = sys.argv[4]
if what == "file":
    context.put(tools.Gated(b"a" * 3000000, gate, b"b"), target)
elif what == "resume":
    context.put(tools.Gated(b"a" * 3000000, gate, b"b"), target, resume=True)
else:
    real = os.lstat
    def stop(name, **options):
        if name == b"zz":
            gate()
        return real(name, **options)
    os.lstat = stop
    context.put(what, target)
"""


@pytest.mark.parametrize("kind", ["named", "nameless"])
@pytest.mark.parametrize("child", ["local", "forked"])
@pytest.mark.parametrize("what", ["file", "folder", "resume"])
def test_the_masters_death_leaves_nothing(tmp_path, kind, child, what):
    """kill -9 of the master in the middle: the context there sees the link end and removes what it had begun; the part
    that was asked to be kept is kept."""
    target = tmp_path / "there"
    target.mkdir()
    source = tmp_path / "source"
    if what == "folder":
        (source / "sub").mkdir(parents=True)
        for number in range(50):
            (source / "sub" / str(number)).write_text("x")
        (source / "zz").write_text("last")
    (tmp_path / "program.py").write_text(MASTER)
    program = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py"), str(target / "file"), child, kind,
         str(source) if what == "folder" else what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT)))
    try:
        assert program.stdout.readline() == "ready\n"
        if kind == "named" or what != "file":
            until(lambda: list(target.iterdir()), "it to begin")
    finally:
        program.kill()
        program.wait(10)
        program.stdin.close()
        program.stdout.close()
    if what == "resume":
        (part,) = until(lambda: list(target.iterdir()), "the part")
        assert part.name.endswith(".part") and part.stat().st_mode & 0o777 == 0o600
    else:
        until(lambda: list(target.iterdir()) == [], "the other end to clean up")


def test_ctrl_c_in_a_put_leaves_nothing(tree, tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    with tree.fork() as context:
        context.call(tools.without_tmpfile)
        with pytest.raises(KeyboardInterrupt):
            context.put(Gated(b"a" * MB, interrupt), tmp_path / "target")
        until(lambda: census(tmp_path) == {}, "the other end to clean up")
        context.put(b"again", tmp_path / "target")
    assert census(tmp_path) == {"target": b"again"}


def test_a_timeout_ends_a_transfer_and_leaves_nothing(tree, tmp_path):
    with tree.fork() as context:
        context.call(tools.without_tmpfile)
        gate = process.Waiter()
        os.kill(context.pid, signal.SIGSTOP)
        try:
            for size in (100, 100 * MB):
                with pytest.raises(contextree.CallTimeout):
                    context.with_options(timeout=0.3).put(bytes(size), tmp_path / "target")
            with pytest.raises(contextree.CallTimeout):
                context.with_options(timeout=0.3).get("/etc/passwd", tmp_path / "target")
        finally:
            os.kill(context.pid, signal.SIGCONT)
        with pytest.raises(contextree.CallTimeout):
            context.with_options(timeout=0.3).put(Gated(b"a" * MB, lambda: gate.wait(0.4), b"b" * 9 * MB),
                                                  tmp_path / "target")
        context.ping()
        # a timeout that comes when all has been sent may find it in place, whole
        until(lambda: census(tmp_path) in ({}, {"target": bytes(100)}), "the other end to clean up")


def test_shutdown_in_the_middle(tree, tmp_path):
    context = tree.fork()
    context.call(tools.without_tmpfile)
    with pytest.raises(contextree.ContextDied):
        context.put(Gated(b"a" * MB, context.shutdown, b"b" * MB), tmp_path / "target")
    assert census(tmp_path) == {}


def test_the_end_of_the_router_ends_a_transfer(tmp_path):
    router = contextree.Router(grace=0.5)
    context = router.local()
    with pytest.raises(contextree.ContextreeError):
        context.put(Gated(b"a" * MB, router.close, b"b" * MB), tmp_path / "target")
    with pytest.raises(contextree.ContextreeError):
        context.put(b"x", tmp_path / "target")
    assert census(tmp_path) == {}


# -- disks


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB, or None where none can be mounted."""
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=755", "none", str(path)],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield path if done.returncode == 0 else None
    if done.returncode == 0:
        subprocess.run(["umount", str(path)], check=True)


def full_disk(context, small_disk, tmp_path):
    """(a folder whose disk has room for 2 MB, the error to expect) for a context."""
    if small_disk is None:
        context.call(tools.limit_files, 2 * MB)
        (tmp_path / "limited").mkdir()
        return tmp_path / "limited", errno.EFBIG
    return small_disk, errno.ENOSPC


@pytest.mark.parametrize("named", [False, True], ids=["nameless", "named"])
def test_a_full_disk_there_is_an_os_error_and_nothing_is_left(tree, tmp_path, small_disk, named):
    with tree.fork() as context:
        if named:
            context.call(tools.without_tmpfile)
        folder, wanted = full_disk(context, small_disk, tmp_path)
        (tmp_path / "source").write_bytes(bytes(20 * MB))
        context.put(b"old", folder / "target")
        for source in (tmp_path / "source", bytes(4 * MB)):
            with pytest.raises(OSError, match=r"No space|too large") as caught:
                context.put(source, folder / "target")
            assert caught.value.errno == wanted and caught.value.filename == str(folder / "target")
            until(lambda: census(folder) == {"target": b"old"}, "the other end to clean up")
        (tmp_path / "tree").mkdir(exist_ok=True)
        (tmp_path / "tree" / "big").write_bytes(bytes(20 * MB))
        with pytest.raises(OSError, match=r"No space|too large") as caught:
            context.put(tmp_path / "tree", folder / "tree")
        assert caught.value.filename == str(folder / "tree" / "big")
        until(lambda: census(folder) == {"target": b"old"}, "the other end to clean up")
        context.put(b"new", folder / "target")
        assert census(folder) == {"target": b"new"}


def test_a_full_disk_here_is_an_os_error_and_nothing_is_left(web, tmp_path, small_disk):
    if small_disk is None:
        pytest.skip("no file system can be mounted here")
    with open(tmp_path / "source", "wb") as file:
        file.write(bytes(20 * MB))
    with pytest.raises(OSError, match="No space") as caught:
        web.get(tmp_path / "source", small_disk / "target")
    assert caught.value.filename == str(small_disk / "target")
    assert census(small_disk) == {}
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space"):
        web.get(tmp_path / "source", full)


# -- permissions


@pytest.fixture
def nobody(tree):
    """A context that runs as another user, who may write to nothing here: as root, nobody; else ourselves."""
    with tree.fork() as context:
        if os.geteuid() == 0:
            entry = pwd.getpwnam("nobody")
            context.call(tools.become, entry.pw_uid, entry.pw_gid)
        yield context


@pytest.fixture
def public():
    """A folder that everybody can reach (pytest's own are private), with a closed one in it."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    (path / "closed").mkdir(mode=0o555 if os.geteuid() else 0o755)
    (path / "secret").write_text("secret")
    (path / "secret").chmod(0o000 if os.geteuid() else 0o600)
    yield path
    (path / "closed").chmod(0o755)
    subprocess.run(["rm", "-rf", str(path)], check=True)


@pytest.mark.parametrize("size", [10, MB])
def test_permission_errors_name_the_path_there(nobody, public, tmp_path, size):
    for path in (public / "closed" / "file",):
        with pytest.raises(PermissionError) as caught:
            nobody.put(bytes(size), path)
        assert caught.value.filename == str(path)
    with pytest.raises(PermissionError) as caught:
        nobody.get(public / "secret", tmp_path / "none")
    assert caught.value.filename == str(public / "secret")
    assert census(tmp_path) == {} and (public / "secret").exists()


def test_ownership_that_may_not_be_given_is_an_error_and_nothing_is_left(nobody, public):
    place = public / "open"
    place.mkdir()
    place.chmod(0o777)
    for options in ({"owner": 0}, {"group": 0}, {"owner": "root", "group": "root"}):
        if os.geteuid() != 0 and options == {"group": 0} and 0 in os.getgroups():
            continue
        with pytest.raises(PermissionError) as caught:
            nobody.put(b"x", place / "file", **options)
        assert caught.value.filename == str(place / "file")
    assert census(place) == {}
    nobody.put(b"x", place / "file", mode=0o640)
    info = (place / "file").stat()
    assert stat.S_IMODE(info.st_mode) == 0o640 and info.st_uid == nobody.call(os.geteuid)


def test_into_a_folder_that_may_be_written_and_not_read(nobody, public):
    place = public / "drop"
    place.mkdir()
    place.chmod(0o733)
    nobody.put(b"letter", place / "file")
    nobody.put(b"another", place / "file")
    assert census(place) == {"file": b"another"}


def test_a_file_of_another_owner_is_replaced_by_one_of_ours(nobody, public):
    """Where we may not give it to the old owner, its mode, which was meant for that owner, is not taken over either."""
    place = public / "shared"
    place.mkdir()
    place.chmod(0o777)
    (place / "file").write_text("old")
    (place / "file").chmod(0o666)
    nobody.put(b"new", place / "file")
    info = (place / "file").stat()
    assert census(place) == {"file": b"new"} and info.st_uid == nobody.call(os.geteuid)
    if os.geteuid() == 0:
        assert stat.S_IMODE(info.st_mode) == 0o644
