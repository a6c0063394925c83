"""The lab works: Pythons are what they say they are, the private sshd lets in whom it should, nothing of it stays."""

import json
import os
import pwd
import subprocess
import sys

import pytest

from tests.lab import processes
from tests.lab.poll import until
from tests.lab.pythons import MINORS, ROOT, debian_mirror, find, one_each
from tests.lab.sshd import RUN, CannotStart, Sshd, sweep

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: accounts, sshd")


def test_pythons_are_what_they_say():
    for python in find():
        said = python.run("-c", "import sys; print('%d.%d.%d' % tuple(sys.version_info[:3]))").stdout.strip()
        assert said == python.version
        assert python.version.startswith(python.minor + ".")
    assert "%d.%d" % sys.version_info[:2] in one_each()
    assert [minor for minor in MINORS if minor in one_each()] == list(one_each())


def test_pythons_are_listed():
    command = [sys.executable, "-m", "tests.lab", "pythons"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=50, check=True)
    assert [line.split()[1] for line in done.stdout.splitlines() if line[0].isdigit()] == [p.version for p in find()]


def test_mirror_is_read_from_apt_sources():
    if not os.path.exists("/etc/debian_version"):
        pytest.skip("not Debian: there is no mirror to find")
    assert debian_mirror().rstrip("/").endswith("/debian")


def test_sshd_lets_the_key_in(sshd):
    assert sshd.ssh("key", "id -un").stdout.strip() == sshd.key_user
    assert sshd.ssh("-l", "root", "any-host", "id -u").stdout.strip() == "0"


def test_sshd_with_pam_lets_the_key_in_too(sshd):
    assert sshd.ssh("pam", "id -un").stdout.strip() == sshd.key_user


def test_sshd_gives_every_login_shell(sshd):
    for name, user in sshd.shell_users.items():
        assert sshd.ssh(name, "id -un").stdout.split() == [user]


def test_sshd_key_user_has_no_password(sshd):
    refused = sshd.ssh("-o", "PubkeyAuthentication=no", "key", "true")
    assert refused.returncode == 255
    assert "Permission denied (publickey,password" in refused.stderr


@pytest.mark.parametrize("what", ["password", "passphrase"])
def test_sshd_takes_secret(sshd, tmp_path, what):
    askpass = tmp_path / "askpass"
    askpass.write_text("#!/bin/sh\nprintf '%s\\n' \"$SECRET\"\n")
    askpass.chmod(0o700)
    environ = dict(os.environ, SSH_ASKPASS=str(askpass), SSH_ASKPASS_REQUIRE="force", SECRET=getattr(sshd, what))
    if what == "password":
        words, user = ["-o", "PubkeyAuthentication=no", "password"], sshd.password_user
    else:
        bare = tmp_path / "config"  # without the plain key, which is in ssh_config
        with open(sshd.ssh_config) as file:
            bare.write_text("".join(line for line in file if "IdentityFile" not in line))
        words, user = ["-F", str(bare), "-i", sshd.passphrase_key, "key"], sshd.key_user
    command = ["ssh", *([] if "-F" in words else ["-F", sshd.ssh_config]), *words, "id -un"]
    done = subprocess.run(
        command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=30, check=False
    )
    assert done.stdout.strip() == user


def test_sshd_gives_every_user_its_python(sshd):
    assert sshd.python_users
    for minor, user in sshd.python_users.items():
        done = sshd.ssh("py" + minor, "python -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'; id -un")
        assert done.stdout.split() == [minor, user], done.stderr


def test_sshd_refuses_unknown_host_key(sshd):
    refused = sshd.ssh("-o", "UserKnownHostsFile=/dev/null", "key", "true")
    assert refused.returncode == 255
    assert "host key" in refused.stderr.lower()


@needs_root
def test_sshd_leaves_nothing(tmp_path):
    state = tmp_path / "state.json"
    try:
        server = Sshd.up(state=str(state), keeper=os.getpid())
    except CannotStart as error:
        pytest.skip("private sshd: %s" % error)
    session = subprocess.Popen(
        ["ssh", "-F", server.ssh_config, "key", "echo in; exec tail -f /dev/null"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with session:
        assert session.stdout.readline() == b"in\n"
        uid = pwd.getpwnam(server.key_user).pw_uid
        assert processes.owned_by({uid})
        Sshd.load(state).down()
        assert session.wait(20) == 255
    assert not any(processes.alive(daemon["process"]) for daemon in server.daemons.values())
    assert processes.owned_by({uid}) == []
    assert not os.path.exists(server.directory)
    assert not state.exists()
    for user in server.users:
        with pytest.raises(KeyError):
            pwd.getpwnam(user)
        assert not os.path.exists("/home/" + user)
    server.down()  # again: nothing to do


@needs_root
def test_sshd_leftover_of_a_killed_run_is_swept():
    keeper = subprocess.Popen(["true"])
    identity = processes.identity(keeper.pid)
    folder = RUN / ("ctxt-test%d" % os.getpid())
    folder.mkdir()
    fields = {"directory": str(folder), "daemons": {}, "users": ["ctxt-nobody-was-made"], "state": None}
    (folder / "state.json").write_text(json.dumps({**fields, "keeper": processes.identity(os.getpid())}))
    sweep()
    assert folder.exists(), "its keeper is alive"
    keeper.wait()
    (folder / "state.json").write_text(json.dumps({**fields, "keeper": identity}))
    sweep()
    assert not folder.exists()


KILLED = """
import os, signal
from tests.lab.sshd_odd import OddSshd
server = OddSshd.up()
print(server.directory, *server.accounts.values(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@needs_root
def test_odd_sshd_of_a_killed_run_is_swept_away(sshd):
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=50)
    directory, *accounts = done.stdout.split()
    with open(directory + "/state.json") as file:
        state = json.load(file)
    daemons = [daemon["process"] for daemon in state["daemons"].values()]
    assert len(accounts) > 8 and all(map(processes.alive, daemons))
    sweep()
    until(lambda: not any(map(processes.alive, daemons)), "its servers to end")
    assert not os.path.exists(directory)
    assert not any(os.path.exists(path) for path in state["files"])
    assert not {entry.pw_name for entry in pwd.getpwall()} & set(accounts)


def test_until_returns_the_value_or_names_what_did_not_come():
    values = iter([0, None, 7])
    assert until(lambda: next(values), "seven") == 7
    with pytest.raises(AssertionError, match="for the moon"):
        until(lambda: False, "the moon", 0.05)
