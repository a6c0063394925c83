"""The ``contextree`` command, run as a user runs it: a process of its own, its output and its exit status."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from contextree.cli import ansible
from contextree.cli.screen import branches
from contextree.cli.targets import BadPattern, expand
from tests.lab import processes
from tests.lab.poll import until

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 50


def command(*words, **options):
    """Run ``contextree WORDS``: a CompletedProcess with text."""
    env = dict(os.environ, PYTHONPATH=str(ROOT), NO_COLOR="1", **options.pop("env", {}))
    return subprocess.run([sys.executable, "-m", "contextree", *words], capture_output=True, text=True, timeout=LIMIT,
                          stdin=subprocess.DEVNULL, env=env, **options)


# -- demo

def test_demo_builds_shows_and_ends_clean():
    done = command("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("fork1", "fork2", "direct", "local", "nested", "deep"):
        assert re.search(rf"^ *{name} +\d+ +3\.\d+\.\d+ .* ms +\d+ us$", done.stdout, re.MULTILINE), name
    for word in ("at once", "stream", "data", "closure", "error", "no process is left", "contextree doctor"):
        assert word in done.stdout
    assert re.search(r"(\d+) of \1 contexts", done.stdout)
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stdout.isascii()
    program = re.search(r"^  python3 -c '(.*)'$", done.stdout, re.MULTILINE)[1]
    next_one = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT,
                              env=dict(os.environ, PYTHONPATH=str(ROOT)))
    assert (next_one.returncode, next_one.stdout, next_one.stderr) == (0, os.getcwd() + "\n", "")


def test_demo_includes_hosts_and_tells_of_one_that_cannot_be_reached(sshd):
    done = command("demo", "--ssh", "key", "--ssh", "nosuchuser@key", "-F", sshd.ssh_config)
    assert done.returncode == 1
    for name in ("ssh.localhost", "ssh.key"):
        assert re.search(rf"^ *{name} +\d+ +3\.", done.stdout, re.MULTILINE), name
    assert "left out: ssh nosuchuser@key: " in done.stdout
    assert "failed: ssh nosuchuser@key" in done.stdout
    assert "the end" in done.stdout


def test_demo_on_a_terminal_draws_the_tree():
    master, slave = pty.openpty()
    try:
        process = subprocess.Popen([sys.executable, "-m", "contextree", "demo"], stdin=subprocess.DEVNULL, stdout=slave,
                                   stderr=subprocess.STDOUT,
                                   env=dict(os.environ, PYTHONPATH=str(ROOT), TERM="xterm", COLUMNS="140",
                                            PYTHONIOENCODING="utf-8"))
        os.close(slave)
        slave = None
        said = b""
        while True:
            try:
                data = os.read(master, 65536)
            except OSError:  # EIO: the last one with the other end has gone
                break
            if not data:
                break
            said += data
        assert process.wait(LIMIT) == 0, said.decode()
    finally:
        for fd in (master, slave):
            if fd is not None:
                os.close(fd)
    text = said.decode()
    assert "└─ " in text
    assert "\x1b[" in text


# -- doctor, ping

def test_doctor_names_what_is_here():
    done = command("doctor")
    assert done.returncode == 0, done.stdout
    for word in ("Python", "loop", "children", "descriptors", "ssh", "trial"):
        assert re.search(rf"^{word} ", done.stdout, re.MULTILINE), word
    assert "WRONG" not in done.stdout


def test_doctor_examines_hosts(sshd):
    done = command("doctor", "key,nosuchuser@key", "-F", sshd.ssh_config)
    assert done.returncode == 1
    assert re.search(r"^key +ok +Python 3\.", done.stdout, re.MULTILINE)
    assert re.search(r"^nosuchuser@key +WRONG +ssh.key, from master, phase login: ", done.stdout, re.MULTILINE)


def test_ansible_doctor_without_ansible(monkeypatch):
    monkeypatch.setitem(sys.modules, "ansible", None)  # as if it could not be imported
    found = ansible.look("all", [], False, 1)
    assert (found["ok"], found["hosts"], [each["what"] for each in found["setup"]]) == (False, [], ["ansible-core"])
    said = f"ansible-core is not installed for {sys.executable}: pip install 'contextree[ansible]'"
    assert found["setup"][0]["text"].startswith(said)
    assert [row[1] for row in ansible.rows(found)] == [True, False]


def test_ping_times_each_host(sshd):
    done = command("ping", "key,local:", "-F", sshd.ssh_config)
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"key", "local"}
    assert done.stdout.count("round trip") == 2


# -- addresses

def test_hosts_are_addresses(sshd):
    done = command("call", "local:?name=a/fork:,key/local:,local:/local:/no/such", "os:getppid", "-F", sshd.ssh_config)
    assert done.returncode == 1
    assert [line.split(": ")[0] for line in sorted(done.stdout.splitlines())] == ["key/local", "local:?name=a/fork"]
    assert done.stderr == ("local:/local:/no/such: hop 2 of 2 (local:/no/such at local): local.local, from local, "
                           "phase start: cannot start /no/such: No such file or directory\n")
    assert command("run", "local:/fork:", "--", "echo", "here").stdout == "here\n"


def test_options_count_where_the_address_says_nothing_else(sshd):
    done = command("call", "--json", "-F", sshd.ssh_config, "-u", "nosuchuser", "--python", "/no/such",
                   f"{sshd.key_user}@key?python=python3,key,local:?python=python3", "os:getuid")
    found = json.loads(done.stdout)
    assert found[f"{sshd.key_user}@key?python=python3"]["result"] > 0
    assert "nosuchuser@" in found["key"]["error"]
    assert found["local:?python=python3"]["result"] == os.getuid()


def on_terminal(answers, *words):
    """Run ``contextree WORDS`` with a controlling terminal, and answer what it asks there: (status, what it said)."""
    master, slave = pty.openpty()
    process = subprocess.Popen(["setsid", "--ctty", "--wait", sys.executable, "-m", "contextree", *words], stdin=slave,
                               stdout=slave, stderr=slave, env=dict(os.environ, PYTHONPATH=str(ROOT), NO_COLOR="1"))
    os.close(slave)
    said = b""
    with process:
        while True:
            try:
                said += os.read(master, 65536)
            except OSError:  # EIO: nobody has it any more
                break
            for prompt, answer in answers.items():
                if said.endswith(prompt):
                    os.write(master, answer.encode() + b"\n")
    os.close(master)
    return process.wait(LIMIT), said.decode()


def test_passwords_are_asked_for_once_and_shown_nowhere(sshd):
    prompt = b"Password for SSH: "
    host = "password?extra_args=-o&extra_args=PubkeyAuthentication=no"
    words = ("call", "-k", "-F", sshd.ssh_config, host, "os:getuid")
    status, said = on_terminal({prompt: sshd.password}, *words[:4], f"{host}&name=a,{host}&name=b/fork", "os:getuid")
    assert status == 0, said
    assert said.count(prompt.decode()) == 1
    assert len(re.findall(r"^password\S*: \d+", said, re.MULTILINE)) == 2
    assert sshd.password not in said
    status, said = on_terminal({prompt: "no, not this"}, *words)
    assert status == 1
    assert "ssh.password, from master, phase login: " in said and "refused" in said
    assert "no, not this" not in said


def test_without_a_terminal_nobody_can_be_asked():
    done = command("ping", "-K", "local:", start_new_session=True)
    assert done.returncode == 2
    assert "nobody to answer" in done.stderr


# -- call

def test_call_prints_the_result():
    done = command("call", "local:", "builtins:sum", "[1, 2, 39]")
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")


def test_call_on_several_hosts_names_them(sshd):
    done = command("call", "key,local:", "os.path:exists", "/etc/passwd", "-F", sshd.ssh_config)
    assert (done.returncode, sorted(done.stdout.splitlines())) == (0, ["key: true", "local: true"])


def test_call_of_a_module_in_the_current_directory(sshd, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import os\n\ndef double(x):\n    print('doubling', x)\n    return [x * 2, os.getcwd()]\n")
    done = command("call", "key", "mine:double", "21", "-F", sshd.ssh_config, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0] == 42
    assert done.stderr == "ssh.key: doubling 21\n"


def test_call_error_is_one_sentence_and_a_status():
    done = command("call", "local:", "os:listdir", "/no/such/folder")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "local: FileNotFoundError: [Errno 2] No such file or directory: '/no/such/folder'\n"
    assert "json.decoder" in command("call", "--traceback", "local:", "json:loads", '"{"').stderr


def test_call_as_json_keeps_results_and_errors_apart():
    done = command("call", "--json", "-p", "1", "local:,127.0.0.1", "operator:add", "1", "2")
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert found["local:"] == {"result": 3}
    assert "connection refused" in found["127.0.0.1"]["error"]


@pytest.mark.parametrize(("words", "said"), [
    (("call", "local:", "nosuchmodule:x"), "cannot be imported here: No module named 'nosuchmodule'"),
    (("call", "local:", "platform"), "is no MODULE:FUNCTION"),
    (("call", "local:", "sys:path"), "is no function: it is of type list"),
    (("ping", "web[9-1]"), "wants a lower and a higher number"),
    (("ping", "web[1-20"), "is no list of hosts"),
    (("ping", "web1/sud:root"), "there is no method 'sud'; did you mean sudo"),
    (("ping", "sud:root"), "there is no method 'sud'; did you mean sudo"),
    (("ping", "ann:geheim@web1"), "an address holds no password: --ask-pass"),
    (("run", "local:"), "Missing argument"),
    (("fly",), "No such command 'fly'"),
])
def test_a_wrong_command_line_is_status_2(words, said):
    done = command(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


# -- run

def test_run_passes_output_and_status_on(sshd):
    done = command("run", "key", "-F", sshd.ssh_config, "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


@pytest.mark.parametrize(("words", "status"), [
    (("local:", "--", "true"), 0),
    (("local:", "--", "no-such-program"), 127),
    (("local:", "--", "/etc/passwd"), 126),
    (("local:", "--shell", "kill -9 $$"), 137),
    (("--timeout", "0.2", "local:", "--", "sleep", "60"), 124),
    (("-p", "1", "127.0.0.1", "--", "true"), 255),
    (("-p", "1", "local:,127.0.0.1", "--", "true"), 1),
])
def test_run_exit_status(words, status):
    done = command("run", *words)
    assert done.returncode == status, done.stderr
    assert len(done.stderr.splitlines()) == {0: 0, 137: 0, 1: 2}.get(status, 1)


def test_run_on_several_hosts_says_whose_line_it_is():
    done = command("run", f"local:,local:{sys.executable}", "--", "printf", "a\\nb")
    assert done.returncode == 0, done.stderr
    names = ("local", f"local:{sys.executable}")
    assert sorted(done.stdout.splitlines()) == [f"{name}: {word}" for name in names for word in "ab"]


def test_ctrl_c_ends_everything():
    process = subprocess.Popen([sys.executable, "-m", "contextree", "run", "local:", "--", "sleep", "1234.5"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=dict(os.environ, PYTHONPATH=str(ROOT)), start_new_session=True)

    def sleeping():
        return [pid for pid in processes.every() if processes.command_line(pid) == "sleep 1234.5"]

    until(sleeping, "the command to run")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "contextree: interrupted"
    assert "Traceback" not in said
    assert not sleeping(), "the command was ended with its context"


def test_run_shows_output_as_it_comes_and_passes_stdin_on():
    process = subprocess.Popen([sys.executable, "-m", "contextree", "run", "--stdin", "local:", "--", "cat"],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               env=dict(os.environ, PYTHONPATH=str(ROOT)))
    with process:
        for line in (b"one\n", b"two\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == line, "before the next is written"
        process.stdin.close()
        assert process.wait(LIMIT) == 0
    assert command("run", "--stdin", "local:,web1", "--", "cat").returncode == 2


# -- patterns, drawing

@pytest.mark.parametrize(("pattern", "hosts"), [
    ("web", ["web"]),
    ("web[1-3],db", ["web1", "web2", "web3", "db"]),
    ("web[08-10]", ["web08", "web09", "web10"]),
    ("r[1,3]n[1-2].x", ["r1n1.x", "r1n2.x", "r3n1.x", "r3n2.x"]),
    ("a,a, b", ["a", "b"]),
    ("me@[::1],local:/usr/bin/python3", ["me@[::1]", "local:/usr/bin/python3"]),
])
def test_patterns(pattern, hosts):
    assert expand(pattern) == hosts


@pytest.mark.parametrize("pattern", [
    "", "a,", "web[", "web]", "web[a-c]", "web[]", "web[2-1]", "w[1-9999]x[1-9999]", "w[0-99999999]",
])
def test_patterns_that_mean_nothing(pattern):
    with pytest.raises(BadPattern):
        expand(pattern)


def test_branches_of_a_tree():
    assert branches([None, 0, 1, 0], draw=True) == ["", "├─ ", "│  └─ ", "└─ "]
    assert branches([None, 0, 1, 0], draw=False) == ["", "  ", "    ", "  "]
