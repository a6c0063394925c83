"""S-21, P-68: where the socket lies, who may come near it, what becomes of it when its owner is killed."""

import os
import signal
import socket
import stat
import subprocess
import sys

import pytest

import contextree
from contextree.core import process
from contextree.parent import place
from tests.services.scripted import in_fork, knock

NOBODY = 65534


def test_s_21_the_directory_is_ours_alone_and_goes_with_the_listener(router):
    with router.listen() as listener:
        directory = os.path.dirname(listener.path)
        found = os.stat(directory)
        assert stat.S_IMODE(found.st_mode) == 0o700 and found.st_uid == os.geteuid()
        assert stat.S_IMODE(os.stat(listener.path).st_mode) == 0o600
    assert not os.path.exists(directory)


@pytest.mark.parametrize("kind", ["open", "group", "symlink", "file", "missing"])
def test_s_21_a_given_directory_is_verified(router, tmp_path, kind):
    directory = tmp_path / "place"
    if kind == "symlink":
        (tmp_path / "real").mkdir(mode=0o700)
        directory.symlink_to(tmp_path / "real")
    elif kind == "file":
        directory.write_text("")
    elif kind != "missing":
        directory.mkdir()
        directory.chmod({"open": 0o755, "group": 0o770}[kind])
    with pytest.raises(contextree.UsageError):
        router.listen(str(directory / "socket"))
    assert kind in ("file", "missing") or not list(directory.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_s_21_a_directory_of_somebody_else_is_refused(router, tmp_path):
    directory = tmp_path / "place"
    directory.mkdir(mode=0o700)
    os.chown(directory, NOBODY, NOBODY)
    with pytest.raises(contextree.UsageError, match="must belong to user"):
        router.listen(str(directory / "socket"))
    with pytest.raises(contextree.UsageError, match="must belong to user"):
        contextree.join(contextree.Invitation(str(directory / "socket"), b"x" * 48))


def pre_created(path, kind):
    if kind == "file":
        path.write_text("mine")
    elif kind == "symlink":
        path.symlink_to(path.parent / "elsewhere")
    elif kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)


@pytest.mark.parametrize("kind", ["file", "symlink", "directory", "fifo"])
@pytest.mark.parametrize("name", ["socket", "socket.lock"])
def test_s_21_what_is_there_already_is_neither_followed_nor_replaced(router, tmp_path, kind, name):
    tmp_path.chmod(0o700)
    path = tmp_path / name
    pre_created(path, kind)
    if (kind, name) == ("file", "socket.lock"):
        router.listen(str(tmp_path / "socket")).close()  # of one that has died
        return
    before = os.lstat(path)
    with pytest.raises(contextree.UsageError):
        router.listen(str(tmp_path / "socket"))
    assert os.lstat(path)[:2] == before[:2] and not os.path.lexists(tmp_path / "elsewhere")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_s_21_another_user_is_refused_by_the_directory_and_by_the_kernels_word(router, store, listener):
    invitation = listener.invite(services=[store])
    assert in_fork(contextree.join, invitation, uid=NOBODY).startswith("UsageError: ")
    assert in_fork(knock, listener.path, uid=NOBODY).startswith("PermissionError")
    # even where the directory lets them in
    os.chmod(os.path.dirname(listener.path), 0o711)
    os.chmod(listener.path, 0o666)

    def intrude():
        sock = knock(invitation.path)
        return sock.recv(1000)

    assert "user %d may not join a tree of user %d" % (NOBODY, os.geteuid()) in in_fork(intrude, uid=NOBODY)
    assert listener.stats()["refused"] == 1 and not listener.guests
    os.chmod(os.path.dirname(listener.path), 0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_s_21_a_client_does_not_join_somebody_elses_tree(tmp_path):
    """An impostor that got hold of the path: the kernel tells who listens there."""
    tmp_path.chmod(0o700)
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as impostor:
        impostor.bind(path)
        pid = os.fork()
        if pid == 0:
            try:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                impostor.listen()  # SO_PEERCRED of a listener is that of who called listen()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        with pytest.raises(contextree.AuthenticationError, match="a process of user 65534 listens"):
            contextree.join(contextree.Invitation(path, b"x" * 48))


def test_p_68_one_path_has_one_listener(router, tmp_path):
    tmp_path.chmod(0o700)
    path = str(tmp_path / "tree")
    with router.listen(path) as listener:
        with contextree.Router() as other, pytest.raises(contextree.UsageError, match="another process listens"):
            other.listen(path)
        with contextree.join(listener.invite()):
            pass
    assert not list(tmp_path.iterdir())
    with socket.socket(socket.AF_UNIX) as foreign:  # a program without a lock
        foreign.bind(path)
        foreign.listen()
        with pytest.raises(contextree.UsageError, match="another process listens"):
            router.listen(path)
    with router.listen(path) as listener, contextree.join(listener.invite()):  # that one has gone
        pass


KILLED = """
import os, signal, sys, contextree
router = contextree.Router()
service = router.serve("echo", {"echo": str})
listener = router.listen(*sys.argv[1:])
print(listener.save(listener.invite(services=[service])), flush=True)
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed():
    """start(path...): a tree in another process that is killed by ``end()``; gives its invitation's path."""
    processes = []

    def start(*args):
        started = subprocess.Popen([sys.executable, "-c", KILLED, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   text=True)
        processes.append(started)

        def end():
            started.communicate("\n", timeout=20)
            assert started.returncode == -signal.SIGKILL

        return started.stdout.readline().strip(), end

    yield start
    for started in processes:
        started.kill()
        started.communicate()


def test_p_68_the_socket_of_a_killed_process_is_replaced(router, tmp_path, killed):
    tmp_path.chmod(0o700)
    path = str(tmp_path / "tree")
    invitation, end = killed(path)
    with pytest.raises(contextree.UsageError, match="another process listens"):
        router.listen(path)
    end()
    assert os.path.exists(path)
    with pytest.raises(contextree.ConnectError, match="nobody listens"):
        contextree.join(invitation)
    os.unlink(invitation)
    with router.listen(path) as listener, contextree.join(listener.invite()) as client:
        assert client.id


def test_p_68_a_directory_of_a_killed_process_is_swept(router, killed, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    invitation, end = killed()
    with router.listen() as listener:
        end()
        assert os.path.exists(invitation), "while it lived nobody took it for dead"
        other = router.listen()
        assert not os.path.exists(os.path.dirname(invitation)) and os.path.exists(listener.path)
        other.close()
    invitation, end = killed()
    client = contextree.join(invitation)  # who sees its end sweeps as well
    assert client.services["echo"].call.echo(1) == "1"
    end()
    with pytest.raises(contextree.ContextDied):
        client.services["echo"].call.echo(1)
    assert os.path.exists(invitation)
    client.close()
    assert not os.path.exists(os.path.dirname(invitation))
    assert not list(tmp_path.iterdir())


def test_s_21_a_swapped_path_is_not_removed(router, tmp_path):
    tmp_path.chmod(0o700)
    path = tmp_path / "socket"
    listener = router.listen(str(path))
    path.rename(tmp_path / "moved")
    path.write_text("somebody else's")
    listener.close()
    assert path.read_text() == "somebody else's"


def test_s_21_a_directory_that_was_swapped_is_not_removed(router):
    listener = router.listen()
    directory = os.path.dirname(listener.path)
    os.rename(directory, directory + "-moved")
    os.mkdir(directory)
    listener.close()
    assert os.path.isdir(directory) and not os.listdir(directory + "-moved")
    os.rmdir(directory)
    os.rmdir(directory + "-moved")


def test_long_paths(router, store, tmp_path):
    directory = tmp_path
    for _ in range(6):
        directory = directory / ("d" * 40)
        directory.mkdir()
    directory.chmod(0o700)
    with router.listen(str(directory / "socket")) as listener, \
            contextree.join(listener.invite(services=[store])) as client:
        assert client.services["store"].call.same(1) == 1


@pytest.mark.parametrize("text", ["", "contextree invitation 1\n", "contextree invitation 1\nsocket\nzz\n",
                                  "contextree invitation 1\n../socket\n%s\n" % ("00" * 48), "\xff" * 2000,
                                  "contextree invitation 1\nsocket\n0011\n"])
def test_s_21_a_file_that_is_no_invitation(tmp_path, text):
    tmp_path.chmod(0o700)
    path = tmp_path / "file"
    path.write_bytes(text.encode("latin-1"))
    path.chmod(0o600)
    with pytest.raises(contextree.UsageError, match="holds no invitation"):
        contextree.join(str(path))


def test_s_21_a_file_that_others_can_read_or_that_is_a_link(tmp_path):
    tmp_path.chmod(0o700)
    path = tmp_path / "file"
    path.write_text("contextree invitation 1\nsocket\n%s\n" % ("00" * 48))
    path.chmod(0o640)
    with pytest.raises(contextree.UsageError, match="must be a file of user"):
        contextree.join(path)
    path.chmod(0o600)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(contextree.UsageError, match="cannot be read"):
        contextree.join(tmp_path / "link")
    with pytest.raises(contextree.ConnectError, match="nobody listens"):
        contextree.join(path)
    tmp_path.chmod(0o755)
    with pytest.raises(contextree.UsageError, match="must belong"):
        contextree.join(path)


def test_place_descriptors_are_ours_and_do_not_survive_a_fork(router, listener):
    inherited = listener.fd, listener.place.fd, listener.place.lock

    def look():
        return [fd for fd in inherited if os.path.exists("/proc/self/fd/%d" % fd)], listener.fd in process._own

    assert in_fork(look) == "([], False)"
    assert not place.sweep(os.path.dirname(listener.path)), "the lock holds"

    def misuse():
        listener.close()

    assert in_fork(misuse).startswith("ForkedError")
    assert os.path.exists(listener.path)
