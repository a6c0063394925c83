"""parent.tty with real pseudo-terminals."""

import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import termios

import pytest

from contextree.parent import tty

LIMIT = 60


def start(pty, program, **options):
    options.setdefault("stdin", subprocess.PIPE)
    return subprocess.Popen(tty.wrap([sys.executable, "-c", program], pty.path), start_new_session=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def read_until(fd, end):
    data = b""
    while not data.endswith(end):
        assert select.select([fd], [], [], LIMIT)[0], data
        more = tty.read(fd)
        assert more, data
        data += more
    return data


ASK = """
import os, sys
fd = os.open("/dev/tty", os.O_RDWR)
os.write(fd, b"Password: ")
answer = os.read(fd, 4096)
os.close(fd)
print(repr(answer), [os.isatty(i) for i in (0, 1, 2)], os.getsid(0) == os.getpid(), flush=True)
sys.stdout.write(sys.stdin.read())
"""


def test_p_46_dev_tty_is_ours_and_stdio_stays_pipes():
    every = bytes(set(range(1, 256)) - {10})
    with tty.open_pty() as pty, start(pty, ASK) as child:
        assert read_until(pty.master, b": ") == b"Password: "
        os.write(pty.master, every + b"\n")
        out, err = child.communicate(b"data")
        assert out.splitlines() == [b"%a [False, False, False] True" % (every + b"\n"), b"data"]
        assert (err, child.returncode) == (b"", 0)
        assert not select.select([pty.master], [], [], 0)[0]           # nothing was echoed


def test_p_46_descriptors_that_are_passed_on_arrive():
    reader, writer = os.pipe()
    code = (f"import os; os.write({writer}, b'x'); "
            "print([i for i in range(99) if os.path.exists('/proc/self/fd/%d' % i)])")
    with tty.open_pty() as pty, start(pty, code, pass_fds=[writer]) as child:
        os.close(writer)
        assert os.read(reader, 9) == b"x" and child.communicate()[0] == b"[0, 1, 2, %d]\n" % writer
    os.close(reader)


def poll_epoll(fd):
    with select.epoll() as poller:
        poller.register(fd, select.EPOLLIN)
        return poller.poll(LIMIT)


def poll_poll(fd):
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return poller.poll(LIMIT * 1000)


HANDED = """
import os, sys
os.write(2, b"Password: ")
answer = os.read(0, 4096)
tell = "import os; print(repr(%a), sys.stdin.read(), flush=True); os.write(2, b'said on stderr')" % answer
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1] + tell])
"""


@pytest.mark.parametrize("platform", ["linux", "darwin"])
@pytest.mark.parametrize("lost", [False, True])
def test_p_46_a_terminal_that_is_handed_over(monkeypatch, platform, lost):
    monkeypatch.setattr(sys, "platform", platform)
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    shell = ["/bin/sh", "-c", 'exec "$0" "$@" 9>&-'] if lost else []  # as csh does
    with tty.open_pty() as pty, ours, open(reader, "rb") as said:
        argv = tty.wrap([*shell, sys.executable, "-c", HANDED, "import sys;" + tty.HANDED], pty.path, True)
        with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=writer, start_new_session=True) as child:
            theirs.close()
            os.close(writer)
            assert read_until(pty.master, b": ") == b"Password: "
            os.write(pty.master, b"secret\n")
            ours.sendall(b"data")
            ours.shutdown(socket.SHUT_WR)
            with ours.makefile("rb") as link:
                assert link.read() == b"b'secret\\n' data\n"
            assert child.wait(LIMIT) == 0
        assert said.read() == (b"" if lost else b"said on stderr")
        assert not lost or read_until(pty.master, b"stderr") == b"said on stderr"


@pytest.mark.parametrize("wait", [poll_epoll, poll_poll, lambda fd: select.select([fd], [], [], LIMIT)[0]])
def test_p_47_the_end_of_the_command_shows_at_the_master(wait):
    program = "import os; f = os.open('/dev/tty', 2); os.write(f, b'up\\n'); input()"
    with tty.open_pty() as pty, start(pty, program) as child:
        assert read_until(pty.master, b"\n") == b"up\n"
        pty.close_slave()
        child.stdin.write(b"\n")
        child.stdin.close()
        assert wait(pty.master)
        assert tty.read(pty.master) == b"" and child.wait(LIMIT) == 0


def test_p_47_while_our_slave_is_open_the_command_may_close_and_open_again():
    twice = ("import os\nfor i in 1, 2:\n"
             " f = os.open('/dev/tty', 2); os.write(f, b'%d?' % i); os.read(f, 9); os.close(f)")
    with tty.open_pty() as pty, start(pty, twice) as child:
        for said in b"1?", b"2?":
            assert read_until(pty.master, b"?") == said
            os.write(pty.master, b"\n")
        assert child.wait(LIMIT) == 0


def test_closing_the_master_hangs_up():
    with tty.open_pty() as pty, start(pty, "print('up', flush=True); input()") as child:
        assert child.stdout.readline() == b"up\n"
        pty.close()
        assert child.wait(LIMIT) == -signal.SIGHUP


def test_a_command_that_is_missing_and_a_terminal_that_is_gone():
    with tty.open_pty() as pty:
        argv = tty.wrap(["no-such-command"], pty.path)
        done = subprocess.run(argv, capture_output=True, start_new_session=True, text=True)
        assert done.returncode == 127 and "no-such-command" in done.stderr
    done = subprocess.run(tty.wrap(["echo", "ran"], "/dev/pts/no-such"), capture_output=True, start_new_session=True)
    assert done.returncode not in (0, 126, 127) and done.stdout == b""


def test_a_prompt_that_flushes_first_gets_its_answer():
    code = "import getpass, sys; print(getpass.getpass('? '), flush=True)"
    with tty.open_pty() as pty, start(pty, code) as child:
        assert read_until(pty.master, b"? ") == b"? "
        os.write(pty.master, b"secret\n")
        assert child.communicate()[0] == b"secret\n"


def test_the_other_way_for_systems_where_opening_is_not_enough(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    test_closing_the_master_hangs_up()


def test_mt_16_descriptors_are_close_on_exec_and_above_stdio():
    code = ("import fcntl, os, sys; from contextree.parent import tty; p = tty.open_pty()\n"
            "low = min(p.master, p.slave)\n"
            "ok = all(fcntl.fcntl(f, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for f in (p.master, p.slave))\n"
            "p.close(); p.close(); os._exit(0 if ok and low >= 3 and p.master == p.slave == -1 else 9)")
    argv = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code]
    assert subprocess.run(argv, env=dict(os.environ, PYTHONPATH=os.getcwd())).returncode == 0


def test_nothing_is_echoed_and_no_character_is_special():
    with tty.open_pty() as pty:
        lflag = termios.tcgetattr(pty.slave)[3]
        assert lflag & termios.ICANON and not lflag & (termios.ECHO | termios.ISIG | termios.IEXTEN)
        assert os.path.samestat(os.stat(pty.path), os.fstat(pty.slave))
        assert fcntl.fcntl(pty.master, fcntl.F_GETFL) & os.O_NONBLOCK == 0


def in_namespace(mounts, program):
    """Run Python where /dev/pts is an instance of our own, so that the machine's terminals are left alone."""
    code = "import os\nfrom contextree.parent import tty\nfrom contextree.core.wire.errors import ConnectError\n"
    code += program
    done = subprocess.run(["unshare", "-m", "sh", "-ec", mounts + '\nexec "$@"', "sh", sys.executable, "-c", code],
                          capture_output=True, text=True, env=dict(os.environ, PYTHONPATH=os.getcwd()))
    assert done.returncode == 0, done.stderr
    return done.stdout


OWN = "mount -t devpts -o newinstance,ptmxmode=0666,max={max} devpts {where}; mount --bind {where}/ptmx /dev/ptmx"


def test_p_48_exhaustion_is_a_readable_error_and_leaks_nothing():
    said = in_namespace(OWN.format(max=2, where="/dev/pts"), """
before = len(os.listdir('/proc/self/fd'))
held = []
try:
    while True: held.append(tty.open_pty())
except ConnectError as exc:
    print(len(held), exc.phase, exc)
for pty in held: pty.close()
print(len(os.listdir('/proc/self/fd')) - before, bool(tty.open_pty()))
""")
    first, second = said.splitlines()
    assert first.startswith("2 start no terminal for the command:") and "kernel.pty.max" in first
    assert second == "0 True"


def test_p_48_too_many_open_files_is_a_readable_error():
    code = """
import resource
from contextree.parent import tty
from contextree.core.wire.errors import ConnectError
resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))
held = []
try:
    while True: held.append(tty.open_pty())
except ConnectError as exc:
    print(len(held), exc)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env=dict(os.environ, PYTHONPATH=os.getcwd())).stdout
    assert "too many open files" in said and int(said.split()[0]) >= 2


def test_p_48_a_devpts_whose_names_lead_nowhere_works(tmp_path):
    said = in_namespace(f"""
mount -t devpts -o newinstance,ptmxmode=0666 devpts {tmp_path}
mount -t tmpfs none /dev
mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/tty c 5 0; ln -s {tmp_path}/ptmx /dev/ptmx""", """
import subprocess, sys
def by_name():                  # what openpty does in musl, whose slave is a path
    raise FileNotFoundError(2, "/dev/pts/0")
code = "import os; f = os.open('/dev/tty', 2); os.write(f, b'hi')"
for os.openpty in (os.openpty, by_name):
    pty = tty.open_pty()
    assert pty.path.startswith("/proc/"), pty.path
    subprocess.run(tty.wrap([sys.executable, "-c", code], pty.path), start_new_session=True, check=True)
    print(tty.read(pty.master))
""")
    assert said == "b'hi'\nb'hi'\n"
