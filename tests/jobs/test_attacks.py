"""Who must not get at a job, and what must not show: strangers, wrong tokens, replays, traps in the file system."""

import contextlib
import os
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import contextree
from contextree.core.wire.frames import NUMBER
from contextree.parent import job_door, job_place, job_services, jobs
from tests.jobs import far
from tests.jobs.conftest import gone, looked
from tests.lab import processes
from tests.lab.poll import until

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")


def dial(directory):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    folder = os.open(directory, os.O_RDONLY)
    try:
        sock.connect("/proc/self/fd/%d/%s" % (folder, job_place.SOCKET))  # its path may be too long
    finally:
        os.close(folder)
    return sock


def read(sock, count):
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            break
        data += part
    return data


def refusal(sock):
    """The sentence that a job says no with."""
    assert read(sock, 1) == b"-"
    return read(sock, NUMBER.unpack(read(sock, 4))[0]).decode()


def wrong(token):
    """A token for the same job with another secret."""
    text = token.reveal() if isinstance(token, contextree.Secret) else token
    return "A" * 32 + text[32:]


def test_a_wrong_token(alone, router):
    for _ in range(3):
        with pytest.raises(contextree.AuthenticationError, match="the token is not that of this job") as caught:
            router.attach(wrong(alone.token))
        assert "AAAA" not in str(caught.value)
    job = router.attach(alone.token).with_options(threads=2)
    assert job.call(far.pid) == alone.who[0]
    assert job.job().output().count("somebody wanted to take this job up: the token is not") == 3
    job.shutdown(force=True)


def test_a_replay_is_worth_nothing(alone, router):
    """What a master said once opens no door, be it whole or mirrored."""
    said = []
    with contextlib.closing(dial(alone.directory)) as sock:
        greeting = read(sock, job_door.GREETING)
        secret, _ = jobs.parse(alone.token)
        head = job_door.MAGIC + os.urandom(32) + b"\0"
        said.append(head + job_door.mac(secret, b"to the job", greeting[8:], head))
        sock.sendall(said[0])
        assert read(sock, 1) == b"+"
        proof = read(sock, 32)
    for data in (said[0], job_door.MAGIC + greeting[8:] + b"\0" + proof, head + proof):
        with contextlib.closing(dial(alone.directory)) as sock:
            assert read(sock, job_door.GREETING) != greeting
            sock.sendall(data)
            assert refusal(sock) == "the token is not that of this job"
    # the other way: what listens there must know the secret as well
    until(lambda: router.attach(alone.token), "the job").shutdown(force=True)


def test_the_secret_is_not_on_the_wire_and_an_impostor_is_found_out(tmp_path, router):
    directory = tmp_path / "job"
    directory.mkdir(0o700)
    secret = os.urandom(24)
    token = job_services.token(secret, str(directory))
    heard = []
    folder = os.open(directory, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("/proc/self/fd/%d/%s" % (folder, job_place.SOCKET))
        os.close(folder)
        server.listen(1)

        def answer(data):
            sock, _ = server.accept()
            with sock:
                sock.sendall(job_door.MAGIC + bytes(32))
                heard.append(read(sock, job_door.ANSWER))
                sock.sendall(data)

        for data in (b"+" + bytes(32) + NUMBER.pack(1) + b"\x80", b"+" + bytes(36), b"?" + bytes(36)):
            with ThreadPoolExecutor(1) as pool:
                pool.submit(answer, data)
                with pytest.raises(contextree.AuthenticationError, match="does not know the token"):
                    router.attach(token)
    assert all(secret not in data for data in heard)
    assert len({data[8:40] for data in heard}) == 3


@pytest.mark.parametrize("data", [b"GET / HTTP/1.0\r\n\r\n", b"ctxjoin1" + bytes(80)])
def test_nonsense_is_refused(alone, data):
    with contextlib.closing(dial(alone.directory)) as sock:
        read(sock, job_door.GREETING)
        sock.sendall(data)
        assert refusal(sock) == "this is no greeting of a master"


def test_silent_ones_cost_nothing(alone, router):
    """500 connections that say nothing, and one that has shown the secret and says no more: masters get in."""
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(contextlib.closing(dial(alone.directory)))
        job = router.attach(alone.token).with_options(threads=2)
        held = job.call(os.listdir, "/proc/self/fd")
        assert len(held) < 320
        job.engine.broker.call(job.engine.children[job.id].link.close, "cut")
        until(lambda: not looked(alone.directory)["held"], "the job to notice")
        sock = stack.enter_context(contextlib.closing(dial(alone.directory)))
        greeting = read(sock, job_door.GREETING)
        head = job_door.MAGIC + os.urandom(32) + b"\0"
        sock.sendall(head + job_door.mac(jobs.parse(alone.token)[0], b"to the job", greeting[8:], head))
        assert read(sock, 1) == b"+"
        with pytest.raises(contextree.AuthenticationError, match="another process is about to take it up"):
            router.attach(alone.token)
        sock.close()
        until(lambda: attached(router, alone.token), "the door to be free").shutdown(force=True)
    assert gone(alone)


def attached(router, token):
    try:
        return router.attach(token)
    except contextree.AuthenticationError:
        return None


@root
def test_another_user_gets_nowhere(alone, router):
    """The directory keeps him out; with the directory open, the kernel's word who he is does; a context of his cannot
    take it up with the token."""
    text = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
sock = socket.socket(socket.AF_UNIX)
try:
    os.chdir(os.path.dirname(sys.argv[1]))
    sock.connect("socket")
    said = b""
    while True:
        part = sock.recv(200)
        if not part:
            break
        said += part
    print(said[45:].decode())
except OSError as error:
    print(error)
"""
    path = os.path.join(alone.directory, job_place.SOCKET)

    def stranger():
        return subprocess.run([sys.executable, "-c", text, path], stdout=subprocess.PIPE, text=True, check=True).stdout

    assert "Permission denied" in stranger()
    opened = [alone.directory]
    while os.path.dirname(opened[-1]) != "/":
        opened.append(os.path.dirname(opened[-1]))
    modes = [(folder, os.stat(folder).st_mode & 0o7777) for folder in opened]
    try:
        for folder, mode in modes:
            os.chmod(folder, mode | 0o755)
        os.chmod(path, 0o777)
        assert "user 65534 may not" in stranger()
        with pytest.raises(contextree.UsageError, match="0700"):
            router.attach(alone.token)
    finally:
        for folder, mode in modes:
            os.chmod(folder, mode)
    other = router.local(name="other", python=["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                                               sys.executable])
    with pytest.raises((contextree.ConnectError, contextree.UsageError)):
        other.attach(alone.token)


@pytest.mark.parametrize("trap", ["link", "file", "open", "other"])
def test_traps_in_the_file_system(router, state, tmp_path, trap, monkeypatch):
    """A place that is a link, a file, or open to others is not used: another one is, or an error says why."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(0o700)
    folder = state / "contextree"
    if trap == "link":
        folder.symlink_to(elsewhere)
    elif trap == "file":
        folder.touch()
    else:
        (folder / "jobs").mkdir(0o700, parents=True)
        (folder / "jobs").chmod(0o770 if trap == "open" else 0o700)
        if trap == "other":
            if os.geteuid() != 0:
                pytest.skip("needs root, to be another user")
            os.chown(folder / "jobs", 65534, 65534)
    worker = router.local(name="worker")
    directory = worker.detach(keep=True).reveal().split("@")[1]
    assert os.path.dirname(directory) == str(tmp_path)
    assert os.path.basename(directory).startswith(job_place.TEMPORARY)
    assert os.stat(directory).st_mode & 0o777 == 0o700 and not list(elsewhere.iterdir())
    worker.shutdown()
    assert not os.path.exists(directory)
    place = folder / "jobs" if trap in ("open", "other") else folder
    second = router.local(name="second")
    with pytest.raises(contextree.UsageError, match=r"0700|cannot be made|no directory"):
        second.detach(keep=True, directory=place)
    assert second.call(far.pid) == second.pid
    with pytest.raises(contextree.UsageError, match="second is no job"):
        second.job()


def test_a_name_that_is_there_already(router, state, monkeypatch):
    """Nobody can guess it; and if he could, it would not be used."""
    folder = state / "contextree" / "jobs"
    folder.mkdir(0o700, parents=True)
    (state / "contextree").chmod(0o700)
    monkeypatch.setattr(os, "urandom", bytes)
    (folder / bytes(5).hex()).symlink_to("/")
    with pytest.raises(contextree.UsageError, match="File exists"):
        job_place.make(str(folder))


def test_the_token_shows_nowhere(alone, router, caplog):
    secret = alone.token.split("@")[0]
    job = router.attach(contextree.Secret(alone.token)).with_options(threads=2)
    for who in ("self", str(alone.who[0])):
        for name in ("cmdline", "environ"):
            with open("/proc/%s/%s" % (who, name), "rb") as file:
                assert secret.encode() not in file.read()
    for name in os.listdir(alone.directory):
        path = os.path.join(alone.directory, name)
        if os.path.isfile(path):
            with open(path, "rb") as file:
                assert secret.encode() not in file.read()
    shown = [repr(job), repr(job.job()), router.tree(), str(vars(job.job())), job.dump()]
    with pytest.raises(contextree.AuthenticationError) as caught:
        router.attach(alone.token)
    shown += [str(caught.value), repr(vars(caught.value)), caplog.text, repr(contextree.Secret(alone.token))]
    assert not any(secret in text for text in shown)
    job.shutdown(force=True)


def test_a_job_in_a_job_and_in_a_fork(router, state):
    """A direct fork of a job is none: it has neither its door nor its lock."""
    worker = router.local(name="worker")
    token = worker.detach(keep=True)
    child = worker.fork(name="child")
    with pytest.raises(contextree.UsageError, match=r"worker\.child is no job"):
        child.job()
    other = child.detach(keep=True)
    assert other != token and len(router.jobs()) == 2
    fds = child.call(os.listdir, "/proc/self/fd")
    targets = [child.call(os.path.realpath, "/proc/self/fd/" + fd) for fd in fds]
    mine = token.reveal().split("@")[1]
    assert not any(mine in target for target in targets)
    worker.shutdown()
    until(lambda: [job.directory for job in router.jobs()] == [other.reveal().split("@")[1]], "the first job to go")
    last = router.attach(other)
    who = processes.identity(last.pid)
    last.shutdown()
    until(lambda: not processes.alive(who), "the second job to end")


def test_words_that_are_no_answers(tmp_path):
    """The exchange reads no more than it was promised."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(NUMBER.pack(1 << 30))
        with pytest.raises(EOFError):
            job_door.sized(ours.fileno())
        theirs.close()
        with pytest.raises(EOFError):
            job_door.receive(ours.fileno(), 1)
    assert re.fullmatch(r"[\w-]{32}@/x", job_services.token(os.urandom(24), "/x"))
