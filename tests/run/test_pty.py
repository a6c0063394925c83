"""Programs on a terminal of their own."""

import os
import signal
import subprocess

import pytest

from tests.lab.poll import until


def test_it_is_the_controlling_terminal(local, fds):
    script = "test -t 0 && test -t 1 && test -t 2 && echo $(tty) && echo open >/dev/tty; ps -o tpgid= -o pgid= -p $$"
    done = local.run(script, shell=True, pty=True, text=True)
    tty, opened, groups = done.stdout.splitlines()
    assert tty.startswith("/dev/pts/") and opened == "open"
    assert len(set(groups.split())) == 1, "its group is in the foreground"
    assert done.stderr is None


def test_size_and_changes_of_it(local, fds):
    assert local.run(["stty", "size"], pty=True).stdout == b"24 80\r\n"
    with local.popen("trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done", shell=True, pty=(10, 20),
                     text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.resize(30, 100)
        assert process.stdout.readline() == "30 100\n"


def test_both_outputs_are_one(local, fds):
    assert local.run("echo out; echo err >&2; echo out", shell=True, pty=True).stdout == b"out\r\nerr\r\nout\r\n"
    got = []
    assert local.run("echo out; echo err >&2", shell=True, pty=True, stdout=got.append).stdout is None
    assert b"".join(got) == b"out\r\nerr\r\n"
    assert local.run(["echo"], pty=True, stdout=subprocess.DEVNULL).stdout is None


def test_input_is_typed_and_ctrl_d_is_its_end(local, fds):
    done = local.run("stty -echo; cat; echo end", shell=True, pty=True, input=b"one\ntwo\n")
    assert done.stdout.endswith(b"one\r\ntwo\r\nend\r\n")
    assert local.run(["cat"], pty=True).stdout == b"", "nothing to read"
    with local.popen(["cat"], pty=True) as process:
        process.stdin.write(b"typed\n")
        assert [process.stdout.readline() for _ in range(2)] == [b"typed\r\n"] * 2, "the echo, and cat"
        process.stdin.write(b"\3")
        assert process.wait(20) == -signal.SIGINT, "Ctrl-C is typed too"


def test_programs_that_end_lose_no_output(local, fds):
    for _ in range(20):
        assert local.run(["seq", "3000"], pty=True, text=True).stdout.split() == [str(n) for n in range(1, 3001)]


def test_the_end_hangs_up(local, fds, marked):
    with local.popen("sleep 1000 & echo ready; wait", shell=True, pty=True, add_env=marked.env) as process:
        assert process.stdout.readline() == b"ready\r\n"
    assert not marked.pids()
    assert process.returncode in (-signal.SIGTERM, -signal.SIGHUP)


@pytest.mark.parametrize(("args", "options", "kind"), [
    (["no-such-program"], {}, FileNotFoundError), (["/etc/passwd"], {}, PermissionError),
    (["/etc"], {}, PermissionError),
    (["true"], {"cwd": "/no/such"}, FileNotFoundError), (["true"], {"cwd": "/etc/passwd"}, NotADirectoryError),
    (["./no"], {"cwd": "/"}, FileNotFoundError),
])
def test_what_cannot_be_started_says_so_here_too(local, fds, args, options, kind):
    with pytest.raises(kind):
        local.run(args, pty=True, **options)


def test_a_deadline_with_a_terminal(local, fds, marked):
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        local.run("trap '' HUP TERM; echo ready; sleep 1000; sleep 1000", shell=True, pty=True, timeout=0.5, grace=0.2,
                  add_env=marked.env)
    assert caught.value.stdout == b"ready\r\n"
    assert not marked.pids()


def test_term_says_that_the_terminal_is_dumb_unless_it_is_known(local, fds):
    assert local.run("echo $TERM", shell=True, pty=True, env={"PATH": os.environ["PATH"]}).stdout == b"dumb\r\n"
    assert local.run("echo $TERM", shell=True, pty=True, add_env={"TERM": "xterm"}).stdout == b"xterm\r\n"


def test_a_terminal_is_given_back(local):
    """Twice as many as there may be at once on some systems, one after the other."""
    with open("/proc/sys/kernel/pty/nr") as file:
        before = int(file.read())
    for _ in range(30):
        local.run(["true"], pty=True)

    def now():
        with open("/proc/sys/kernel/pty/nr") as file:
            return int(file.read())

    until(lambda: now() <= before + 2, "the terminals to be closed")
