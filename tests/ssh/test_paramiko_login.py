"""Ways in and refusals that paramiko's transport has of its own: keys as objects, agents, certificates, questions."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess

import paramiko
import pytest

import contextree
from tests.lab import processes
from tests.lab.poll import until
from tests.ssh.server import Host


@pytest.fixture
def reach(router, sshd):
    """reach(host="key", **options), by paramiko."""
    def go(host="key", **options):
        options.setdefault("ssh_config", sshd.ssh_config)
        return router.ssh(host, transport="paramiko", **options)

    return go


@pytest.fixture
def host():
    """A host that asks what a test wants."""
    host = Host()
    yield host
    host.close()


@pytest.fixture
def enter(router, host, tmp_path):
    """enter(**options): a context at it."""
    def go(**options):
        known = tmp_path / "known"
        known.write_text(host.known_line())
        return router.ssh("127.0.0.1", user="ann", port=host.port, transport="paramiko", ssh_config="none",
                          known_hosts=known, **options)

    return go


@pytest.fixture
def agent(tmp_path):
    """The socket of a real ssh-agent."""
    path = str(tmp_path / "agent")
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as program:
        until(lambda: os.path.exists(path), "the agent")
        yield path
        program.terminate()


def add(agent, key):
    subprocess.run(["ssh-add", "-q", key], env=dict(os.environ, SSH_AUTH_SOCK=agent), check=True,
                   stderr=subprocess.DEVNULL)


def test_a_key_object(reach, sshd, bare_config):
    key = paramiko.Ed25519Key.from_private_key_file(sshd.key)
    other = paramiko.ECDSAKey.generate()
    with reach(key=key, ssh_config=bare_config) as web, reach(key=[other, key], ssh_config=bare_config) as same:
        assert web.call(os.getuid) == same.call(os.getuid)
    with pytest.raises(contextree.AuthenticationError, match=r"the host takes publickey"):
        reach(key=other, ssh_config=bare_config)
    with pytest.raises(contextree.UsageError, match="key= wants a paramiko"):
        reach(key="/a/path")


def test_agent(reach, sshd, agent, tmp_path, monkeypatch):
    add(agent, sshd.key)
    config = tmp_path / "config"
    text = pathlib.Path(sshd.ssh_config).read_text()
    bare = [line for line in text.splitlines() if "Identit" not in line]
    config.write_text("IdentityAgent %s\n%s\n" % (agent, "\n".join(bare)))
    with reach(ssh_config=config) as web:
        assert web.call(abs, -1) == 1
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    config.write_text("\n".join(bare))
    with reach(ssh_config=config) as web:
        assert web.call(abs, -1) == 1
    other = tmp_path / "other"
    paramiko.ECDSAKey.generate().write_private_key_file(str(other))
    with pytest.raises(contextree.AuthenticationError):  # only the key that was named is offered
        reach(ssh_config=config, identity_file=other)
    # a key that is in the agent needs no passphrase here
    subprocess.run(["ssh-add", "-q", "-D"], env=dict(os.environ, SSH_AUTH_SOCK=agent), check=True)
    add_encrypted(agent, sshd, tmp_path)
    with reach(ssh_config=config, identity_file=sshd.passphrase_key) as web:
        assert web.call(abs, -1) == 1


def add_encrypted(agent, sshd, tmp_path):
    ask = tmp_path / "ask"
    ask.write_text("#!/bin/sh\necho '%s'\n" % sshd.passphrase)
    ask.chmod(0o700)
    subprocess.run(["ssh-add", "-q", sshd.passphrase_key], check=True, stdin=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, env=dict(
                       os.environ, SSH_AUTH_SOCK=agent, SSH_ASKPASS=str(ask), SSH_ASKPASS_REQUIRE="force"))


@pytest.fixture(scope="module")
def strict_sshd(sshd, tmp_path_factory):
    """One more real sshd: it takes certificates of an authority from key_user, and a key and then a password from
    password_user."""
    folder = pathlib.Path(sshd.directory, "strict")
    folder.mkdir()
    text = pathlib.Path(sshd.directory, "pam.conf").read_text()
    port = int(pathlib.Path(sshd.directory, "pam.conf").read_text().split("Port ")[1].split()[0])
    authority = tmp_path_factory.mktemp("authority") / "ca"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", authority], check=True)
    with contextlib.closing(__import__("socket").create_server(("127.0.0.1", 0))) as probe:
        free = probe.getsockname()[1]
    head = [line.replace(str(port), str(free)) for line in text.split("Match ")[0].splitlines()
            if not line.startswith("PidFile")]
    shutil.copy(str(authority) + ".pub", folder / "ca.pub")
    (folder / "config").write_text("\n".join(head) + """
PidFile %s/pid
TrustedUserCAKeys %s/ca.pub
Match User %s
  AuthorizedKeysFile none
Match User %s
  AuthenticationMethods publickey,keyboard-interactive
""" % (folder, folder, sshd.key_user, sshd.password_user))
    log = folder / "log"
    subprocess.run(["/usr/sbin/sshd", "-f", folder / "config", "-E", log], check=True)
    until(lambda: (folder / "pid").exists() and (folder / "pid").read_text().strip(), "sshd to listen")
    who = processes.identity(int((folder / "pid").read_text()))
    key = pathlib.Path(sshd.daemons["pam"]["key"] + ".pub").read_text().split()[:2]
    config = folder / "ssh_config"
    config.write_text("Host *\n  HostName 127.0.0.1\n  Port %d\n  UserKnownHostsFile %s/known\n  IdentityFile none\n"
                      "  IdentityAgent none\n" % (free, folder))
    (folder / "known").write_text("[127.0.0.1]:%d %s %s\n" % (free, *key))
    yield str(config), authority
    processes.end([who, *processes.descendants(who[0])])
    shutil.rmtree(folder)


def test_certificates(reach, sshd, strict_sshd, agent, tmp_path):
    config, authority = strict_sshd
    key = tmp_path / "id"
    shutil.copy(sshd.key, key)
    shutil.copy(sshd.key + ".pub", str(key) + ".pub")
    key.chmod(0o600)
    with pytest.raises(contextree.AuthenticationError):
        reach(user=sshd.key_user, ssh_config=config, identity_file=key)
    subprocess.run(["ssh-keygen", "-q", "-s", authority, "-I", "test", "-n", sshd.key_user, str(key) + ".pub"],
                   check=True)
    certificate = str(key) + "-cert.pub"
    with reach(user=sshd.key_user, ssh_config=config, identity_file=key) as web:  # it stands beside the key
        assert web.call(abs, -1) == 1
    add(agent, str(key))
    other = tmp_path / "config"
    other.write_text("IdentityAgent %s\n%s" % (agent, pathlib.Path(config).read_text()))
    with reach(user=sshd.key_user, ssh_config=other) as web:  # the agent has it
        assert web.call(abs, -1) == 1
    os.rename(certificate, tmp_path / "cert")
    for options in ({"identity_file": key}, {"key": paramiko.Ed25519Key.from_private_key_file(str(key))}):
        with reach(user=sshd.key_user, ssh_config=config, certificate_file=tmp_path / "cert", **options) as web:
            assert web.call(abs, -1) == 1


def test_a_key_and_then_a_password(reach, sshd, strict_sshd):
    config, _authority = strict_sshd
    with reach(user=sshd.password_user, ssh_config=config, identity_file=sshd.key, password=sshd.password) as web:
        assert web.call(abs, -1) == 1
    with pytest.raises(contextree.AuthenticationError, match="keyboard-interactive"):
        reach(user=sshd.password_user, ssh_config=config, identity_file=sshd.key)


CODE = [("Password: ", False, "the Canary"), ("Verification code: ", True, "314159")]


@pytest.mark.parametrize("rounds", [[CODE], [CODE[:1], CODE[1:]], [CODE[:1], [], CODE[1:]]])
@pytest.mark.parametrize("otp", ["314159", contextree.Secret("314159"), lambda: "314159"])
def test_password_and_code(host, enter, rounds, otp):
    host.questions = rounds
    with enter(password=host.password, otp=otp) as web:
        assert web.call(abs, -1) == 1
    assert host.offered == ["the Canary", "314159"]


def test_both_in_one_answer(host, enter):
    host.questions = [[("Password & verification code: ", False, "the Canary314159")]]
    with enter(password=host.password, otp="314159") as web:
        assert web.call(abs, -1) == 1


def test_three_things_one_after_the_other(host, enter):
    host.methods = ["publickey", "password", "keyboard-interactive"]
    host.questions = [CODE[1:]]
    with enter(key=paramiko.ECDSAKey.generate(), password=host.password, otp="314159") as web:
        assert web.call(abs, -1) == 1
    assert host.offered == ["ecdsa-sha2-nistp256", host.password, "314159"]


@pytest.mark.parametrize("questions, options, why", [
    ([[("Password: ", False, "x")]], {"otp": "1"}, "asks for a password, and password= was not given"),
    ([CODE[1:]], {"password": "the Canary"}, "asks for a one-time code, and otp= was not given"),
    ([CODE[:1], CODE[:1]], {"password": "the Canary"}, "the password was refused"),
    ([CODE[1:], CODE[1:]], {"otp": "314159"}, "the one-time code was refused"),
    ([[("New password: ", False, "x")]], {"password": "the Canary"}, "the password has expired"),
    ([[("What is your quest?\x1b[2J ", True, "x")]], {"password": "the Canary"}, "cannot be answered here: What is"),
    ([[("Fingers: ", False, "x")]], {"password": "the Canary"}, "what cannot be answered here"),
])
def test_questions_that_nobody_answers(host, enter, questions, options, why):
    host.questions = questions
    with pytest.raises(contextree.AuthenticationError, match=why) as caught:
        enter(**options)
    assert caught.value.phase == "login"
    assert "Canary" not in str(caught.value) + caught.value.output and "\x1b" not in str(caught.value)
    right = [answer for row in questions for _text, echo, answer in row if not echo]
    assert len(host.offered) <= 1 and set(host.offered) <= {*right, "314159"}


def test_a_wrong_code_is_given_once(host, enter):
    host.questions = [CODE]
    with pytest.raises(contextree.AuthenticationError, match=r"ann@127\.0\.0\.1 was refused"):
        enter(password=host.password, otp="271828")
    assert host.offered == ["the Canary", "271828"]


def test_whoever_is_asked_for_the_code_may_fail(host, enter):
    host.questions = [CODE]

    def no():
        raise contextree.UsageError("the token is at home")

    with pytest.raises(contextree.ContextreeError, match="at home"):
        enter(password=host.password, otp=no)
    assert host.offered == []


def test_no_secret_is_shown_anywhere(host, enter, caplog):
    caplog.set_level("DEBUG", "contextree.paramiko")
    host.questions = [CODE]
    with enter(password=host.password, otp="314159") as web:
        assert "Canary" not in repr(web.engine.children[web.id].plan)
        assert "Canary" not in web.call(pathlib.Path.read_text, pathlib.Path("/proc/self/environ"))
    with pytest.raises(contextree.AuthenticationError) as caught:
        enter(password="another Canary", otp="314159")
    assert "Auth" in caplog.text and "Canary" not in caplog.text and "314159" not in caplog.text
    assert "Canary" not in str(caught.value) + caught.value.output + caught.value.command


def test_nothing_of_paramiko_comes_into_the_log_of_the_program(host, enter, caplog):
    caplog.set_level("INFO")
    with enter(password=host.password):
        pass
    with pytest.raises(contextree.AuthenticationError):
        enter(password="wrong")
    assert not [record for record in caplog.records if "paramiko" in record.name]


def test_the_signal_that_ended_it(host, enter):
    host.end_with = "SEGV"
    with pytest.raises(contextree.ConnectError, match="killed by signal %d" % signal.SIGSEGV) as caught:
        enter(password=host.password, python="false")
    assert caught.value.phase == "boot"
