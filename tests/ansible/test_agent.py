"""Steps at a host: each where and as a shell would have done it, a batch of them as one request."""

import os
import pathlib
import shlex
import stat
import subprocess
import sys

import pytest

import contextree
from ansible_plugin.controller import payload
from ansible_plugin.target import agent, archives, seats
from contextree.connect.plan import PYTHON
from tests.ansible import payloads
from tests.lab.poll import until

EMPTY = b"PK\5\6" + bytes(18)  # a zip without members

WAY = seats.Way("sudo", "ctxt-nobody", ("sudo", "-n", "-u", "ctxt-nobody-of-that-name", PYTHON), "", None, None,
                False, 9)


@pytest.fixture
def host() -> contextree.Context:
    with contextree.Router() as router:
        yield router.local(threads=8)


def ask(host: contextree.Context, *steps: list[object]) -> tuple[object, ...]:
    answer = host.call(agent.do, [list(step) for step in steps])
    return answer[:2] if answer[0] == "done" else answer  # without how many accounts were become


ARGVS = [["true"], ["false"], ["/bin/sh", "-c", "echo out; echo err >&2; exit 7"], ["/bin/sh", "-c", "kill -9 $$"],
         ["cat"],
         ["/bin/sh", "-c", "pwd; umask; id -u; test -t 0"]]


def test_a_command_gives_what_subprocess_gives(host: contextree.Context) -> None:
    for argv in ARGVS:
        for data in None, b"", b"some\0data" * 1000:
            expected = subprocess.run(argv, input=data or b"", capture_output=True)
            status = expected.returncode if expected.returncode >= 0 else 128 - expected.returncode
            wanted = status, expected.stdout, expected.stderr
            assert ask(host, ["command", None, argv, data]) == ("done", wanted), argv


def test_a_command_on_a_terminal_has_one(host: contextree.Context) -> None:
    answer = ask(host,
                 ["command", None, ["/bin/sh", "-c", "tty; test $(tty) = $SSH_TTY && echo same; echo e >&2; exit 3"],
                  None, True, None, {"SSH_CONNECTION": "as sshd gives it"}])
    (status, out, err) = answer[1]
    assert (status, err) == (3, b"")
    assert out.startswith(b"/dev/pts/")
    assert out.endswith(b"\r\nsame\r\ne\r\n")


def test_on_a_terminal_what_goes_on_in_the_background_is_not_waited_for(host: contextree.Context) -> None:
    (status, out, _) = ask(host, ["command", None, ["/bin/sh", "-c", "trap '' HUP; sleep 60 & echo $!"], None, True])[1]
    assert status == 0
    os.kill(int(out), 9)  # it lives on


def test_a_batch_is_done_in_its_order_and_answers_its_last(host: contextree.Context, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "a" / "b" / "ansible-tmp-1"
    answer = ask(host, ["mkdtemp", None, str(folder), 0o700, "false"],
                 ["put", None, str(folder / "x"), 0o600, b"#!/bin/sh\necho hi\n"],
                 ["add_mode", None, [str(folder / "x")], 0o100, "false"], ["command", None, [str(folder / "x")]])
    assert answer == ("done", (0, b"hi\n", b""))
    for each in (folder, tmp_path / "a", folder / "x"):
        assert stat.S_IMODE(os.stat(each).st_mode) == 0o700
    assert ask(host, ["remove", None, str(folder)]) == ("done", (0, b"", b""))
    assert not folder.exists()
    assert ask(host, ["remove", None, str(folder)]) == ("done", (0, b"", b""))


def test_a_step_that_fails_ends_the_batch_and_says_what_a_shell_says(host: contextree.Context,
                                                                     tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    path = str(tmp_path / "file" / "folder")
    text = "mkdir " + shlex.quote(path)
    answer = ask(host, ["home", None, ""], ["mkdtemp", None, path, 0o700, text],
                 ["command", None, ["touch", str(tmp_path / "no")]])
    said = subprocess.run(["/bin/sh", "-c", text], capture_output=True)
    assert answer == ("failed", 1, said.returncode, b"", said.stderr)
    assert not (tmp_path / "no").exists()
    answer = ask(host, ["put", None, path, 0o600, b""], ["home", None, ""])
    assert answer[:3] == ("failed", 0, 1) and b"Not a directory" in answer[4]


def test_a_folder_of_ours_that_is_there_already_is_well(host: contextree.Context, tmp_path: pathlib.Path) -> None:
    """The link broke after it was made, and the batch is asked again."""
    assert ask(host, ["mkdtemp", None, str(tmp_path), 0o700, "false"], ["home", None, ""])[0] == "done"


def test_home_is_what_a_shell_says(host: contextree.Context) -> None:
    assert ask(host, ["home", None, ""])[1] == subprocess.check_output("echo ~", shell=True, text=True).strip()


def test_a_file_is_read_if_it_is_one(host: contextree.Context, tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "file").chmod(0o640)
    os.mkfifo(tmp_path / "pipe")
    assert ask(host, ["read", None, str(tmp_path / "file"), 5]) == ("done", [0o640, b"12345"])
    assert ask(host, ["read", None, str(tmp_path / "file"), 4]) == ("done", [0o640, None])
    for name in ("pipe", "none", "."):
        assert ask(host, ["read", None, str(tmp_path / name), 4]) == ("done", None)


def test_a_seat_that_cannot_be_had_is_said_and_what_stands_before_is_done(host: contextree.Context,
                                                                          tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "folder")
    answer = ask(host, ["mkdtemp", None, path, 0o700, "false"], ["home", WAY, ""])
    assert answer[:2] == ("refused", 1)
    assert os.path.isdir(path)


def test_an_interpreter_that_cannot_be_kept_warm_is_said_once(host: contextree.Context) -> None:
    task = {"python": ["false"], "fqn": "ansible.modules.ping", "params": b"{}"}
    for _ in range(2):
        answer = ask(host, ["module", None, "digest", archives.take_apart(EMPTY), task])
        assert answer[:2] == ("plain", 0)


def test_variables_with_which_an_interpreter_does_not_start_are_those_of_one_task(host: contextree.Context) -> None:
    found = payload.take_apart(payloads.payload("import sys; print('well'); sys.exit(0)"))
    assert found is not None
    parts = archives.take_apart(found.zip_data())
    for env, expected in ({}, "done"), ({"PYTHONHOME": "/nowhere"}, "plain"), ({}, "done"):
        task = dict(found.task, python=[sys.executable], env=env)
        assert ask(host, ["module", None, found.digest, parts, task])[0] == expected


def test_a_command_ends_with_who_waits_for_it(host: contextree.Context, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "pid"
    script = "sleep 600 & echo $! > %s.new; mv %s.new %s; wait" % ((path,) * 3)
    future = host.submit(agent.do, [["command", None, ["/bin/sh", "-c", script]]])
    until(path.exists, "the program to start")
    pid = int(path.read_text())
    future.cancel()
    until(lambda: not os.path.exists("/proc/%d" % pid) or " Z " in pathlib.Path("/proc/%d/stat" % pid).read_text(),
          "it to end")
