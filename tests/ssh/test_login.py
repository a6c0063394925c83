"""``router.ssh`` against the private sshd: every way in, and every way to be refused."""

import os
import pathlib
import pwd
import socket
import sys

import pytest

import contextree
from tests.lab import processes
from tests.lab.poll import until
from tests.lab.pythons import MINORS

NEWER = [minor for minor in MINORS if minor != "2.7" and minor not in ("3.14", "3.15")]


def whoami():
    return pwd.getpwuid(os.getuid()).pw_name


def no_ssh_left():
    """No ssh process is a child of ours."""
    mine = processes.descendants(os.getpid())
    return not [who for who in mine if processes.alive(who) and processes.command_line(who[0]).startswith("ssh ")]


def test_key(reach, sshd):
    with reach() as web:
        assert web.call(whoami) == sshd.key_user
        assert web.name == "ssh.key"
        assert web.facts["method"] == "ssh"


def test_key_with_pam_and_an_alias_of_ssh_config(reach, sshd):
    with reach("pam") as web:
        assert web.call(whoami) == sshd.key_user
        assert web.name == "ssh.pam"


@pytest.mark.parametrize("port", ["plain", "pam"])
def test_password_on_a_terminal_of_ours(reach, sshd, bare_config, port):
    with reach("password", port=sshd.daemons[port]["port"], password=sshd.password, ssh_config=bare_config) as web:
        assert web.call(whoami) == sshd.password_user


def test_passphrase_of_a_key(reach, sshd, bare_config):
    with reach(identity_file=sshd.passphrase_key, passphrase=sshd.passphrase, ssh_config=bare_config) as web:
        assert web.call(whoami) == sshd.key_user


def test_wrong_password_says_so_and_shows_none(reach, sshd, bare_config):
    with pytest.raises(contextree.AuthenticationError) as caught:
        reach("password", password="not the Canary", ssh_config=bare_config)
    assert caught.value.phase == "login"
    assert sshd.password_user in str(caught.value)
    assert "Permission denied" in caught.value.output
    assert "Canary" not in str(caught.value) + caught.value.output + caught.value.command
    assert no_ssh_left()


def test_a_password_that_nobody_gave_is_asked_of_nobody(reach, bare_config):
    with pytest.raises(contextree.AuthenticationError, match="check user=, the key, or the password"):
        reach("password", ssh_config=bare_config)


def test_wrong_passphrase(reach, sshd, bare_config):
    with pytest.raises(contextree.AuthenticationError):
        reach(identity_file=sshd.passphrase_key, passphrase="wrong", ssh_config=bare_config)


def test_s_27_unknown_host_key_is_refused(reach, tmp_path):
    with pytest.raises(contextree.HostKeyError, match="host_keys='accept-new'"):
        reach(known_hosts=tmp_path / "none")


@pytest.mark.parametrize("host_keys", ["strict", "accept-new"])
def test_s_27_changed_host_key_is_refused(reach, sshd, tmp_path, host_keys):
    known = tmp_path / "known"
    known.write_text(sshd.known_line("plain", "pam"))
    with pytest.raises(contextree.HostKeyError, match="changed"):
        reach(known_hosts=known, host_keys=host_keys)


def test_accept_new_stores_the_key(reach, tmp_path):
    known = tmp_path / "known"
    with reach(known_hosts=known, host_keys="accept-new"):
        assert "ssh-ed25519" in known.read_text()
    with reach(known_hosts=known):
        pass


def test_s_27_a_check_that_is_off_is_logged(reach, caplog):
    with reach(host_keys="off"):
        until(lambda: [record for record in caplog.records if record.name == "contextree.ssh.key"], "the warning")
    assert "the host key of key is not checked" in caplog.text


def test_proxy_jump(reach, sshd):
    with reach("key", jump="pam") as web:
        assert web.call(whoami) == sshd.key_user
    assert "Accepted publickey for " + sshd.key_user in pathlib.Path(sshd.daemons["pam"]["log"]).read_text()


def test_missing_python_names_it_and_what_to_do(reach):
    with pytest.raises(contextree.ConnectError, match=r"the host has no such Python.*python=") as caught:
        reach(python="/no/such/python3")
    assert (caught.value.phase, caught.value.status) == ("boot", 127)
    assert "/no/such/python3" in caught.value.output


def test_python_2_is_refused_politely(reach, sshd):
    if "2.7" not in sshd.python_users:
        pytest.skip("no Python 2.7 on this machine")
    with pytest.raises(contextree.VersionError, match=r"Python 3\.6 or newer is needed there, this is 2\.7\.\d+"):
        reach("py2.7", python="python")


@pytest.mark.parametrize("minor", NEWER)
def test_every_python_of_the_lab(reach, sshd, minor):
    if minor not in sshd.python_users:
        pytest.skip(f"no Python {minor} on this machine")
    with reach("py" + minor) as web:
        assert ".".join(str(part) for part in web.facts["version"][:2]) == minor
        assert web.call(sum, [1, 2, 3]) == 6
        with web.local() as below:
            assert below.call(os.getppid) == web.pid
        with web.fork() as forked:
            assert forked.call(os.getuid) == pwd.getpwnam(sshd.python_users[minor]).pw_uid


def test_refused_port(reach):
    with socket.socket() as taken:  # bound and not listening: nobody else can get it
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(contextree.ConnectError, match=rf"nothing listens at 127\.0\.0\.1 port {port}") as caught:
            reach(port=port)
    assert (caught.value.phase, caught.value.status) == ("connect", 255)


def test_p_51_silent_port_ends_in_time_and_leaves_no_ssh(reach):
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(contextree.ConnectTimeout) as caught:
        reach(port=silent.getsockname()[1], connect_timeout={"connect": 1})
    assert caught.value.phase == "connect"
    assert no_ssh_left()


def test_unknown_host(reach):
    with pytest.raises(contextree.ConnectError, match=r"no-such-host\.invalid"):
        reach("no-such-host.invalid", ssh_config="/dev/null")


def test_p_53_missing_ssh_is_a_failed_start_here_and_by_way_of_another(router, reach):
    with router.local() as other:
        for via in (None, other):
            with pytest.raises(contextree.ConnectError, match="no-such-ssh") as caught:
                reach(ssh="no-such-ssh", via=via)
            assert caught.value.phase == "start"


NOISE = 1 << 20
NOISY = """\
head -c %d /dev/zero | tr '\\0' 'n'
echo
echo 'contextree: python runs'
echo 'contextree:00112233445566778899aabbccddeeff'
printf '\\034\\000\\000\\000'
printf 'no end of this line'
""" % NOISE


def test_noisy_bashrc_with_a_megabyte_and_a_false_handshake(reach, sshd, caplog):
    caplog.set_level("INFO")
    home = pathlib.Path("~" + sshd.noisy_user).expanduser()
    (home / ".bashrc").write_text(NOISY)
    with reach("noisy") as web:
        assert web.call(sum, [20, 22]) == 42
        until(lambda: "contextree:001122" in caplog.text, "the noise in the log")
    (home / ".bashrc").write_text("echo 'go away'; exit 3\n")
    with pytest.raises(contextree.ConnectError, match=r"ended with status 3.*") as caught:
        reach("noisy")
    assert "go away" in caught.value.output
    assert caught.value.status == 3


@pytest.mark.parametrize("shell", ["dash", "zsh", "tcsh", "fish"])
def test_login_shells(reach, sshd, shell):
    if shell not in sshd.shell_users:
        pytest.skip(f"{shell} is not installed")
    with reach(shell) as web:
        assert web.call(whoami) == sshd.shell_users[shell]
        assert web.call(os.getenv, "SHELL").endswith("/" + shell)


def test_p_72_names(reach):
    with pytest.raises(contextree.UsageError, match="a/b"):
        reach(name="a/b")
    with reach(name="db-1") as web:
        assert web.name == "db-1"


def test_interpreter_of_the_master_is_not_asked_of_the_host(reach):
    with reach() as web:
        assert web.facts["executable"] != sys.executable
