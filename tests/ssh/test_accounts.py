"""Odd accounts: login shells, forced commands, chroots, limits, dropbear, banners, addresses, configuration."""

import os
import pathlib
import pwd
import socket
import subprocess

import pytest

import contextree
from tests.lab.poll import until


def whoami():
    return pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def shell(odd):
    """shell(name): skips where it is not installed."""
    def check(name):
        if name not in odd.accounts:
            pytest.skip("%s is not installed" % name)

    return check


@pytest.fixture
def authorized(odd):
    """authorized(options): what the key of ``free`` may do, for one test."""
    yield odd.authorize
    odd.authorize()


# -- shells


@pytest.mark.parametrize("name", ["mksh", "csh", "rbash", "ash"])
def test_login_shells(far, odd, shell, name):
    shell(name)
    for python in (None, "/usr/bin/python3"):
        with far(name, python=python) as web:
            assert web.call(whoami) == odd.accounts[name]
            assert web.call(len, b"\0\xff\r\n" * 1000) == 4000


def test_nologin(far, shell):
    shell("nologin")
    with pytest.raises(contextree.ConnectError, match="the account may not log in: This account") as caught:
        far("nologin")
    assert (caught.value.phase, caught.value.status) == ("boot", 1)


def test_chroot_without_a_python(far, shell):
    shell("ash")
    with pytest.raises(contextree.ConnectError) as caught:
        far("chroot")
    error = caught.value
    assert (error.phase, error.status) == ("boot", 127)
    for words in ("no Python 3.6 or newer", "python3, python3.16 to python3.6", "platform-python", "PATH=/", "python="):
        assert words in str(error)


def test_account_for_files_only(far):
    with pytest.raises(contextree.ConnectError, match="for file transfer only") as caught:
        far("sftp")
    assert caught.value.phase == "boot"


# -- forced commands


@pytest.mark.parametrize("command", ['exec sh -c \\"$SSH_ORIGINAL_COMMAND\\"', 'eval \\"$SSH_ORIGINAL_COMMAND\\"',
                                     'logger -s hello 2>&1; sh -c \\"$SSH_ORIGINAL_COMMAND\\"'])
def test_forced_command_that_runs_what_was_asked(far, odd, authorized, command):
    authorized('command="%s"' % command)
    with far() as web:
        assert web.call(whoami) == odd.accounts["free"]
        assert "python" in web.call(os.getenv, "SSH_ORIGINAL_COMMAND")


@pytest.mark.parametrize("command, words", [
    ("$SSH_ORIGINAL_COMMAND", "has to run \\$SSH_ORIGINAL_COMMAND, by a shell"),
    ("true", "ended with status 0 before it said hello.*ORIGINAL_COMMAND"),
    ("echo go away; exit 3", "status 3 before it said hello: go away"), ("cat", "what is sent there comes back"),
], ids=["unquoted", "true", "says no", "cat"])
def test_forced_command_that_runs_something_else(far, authorized, command, words):
    authorized('command="%s"' % command)
    with pytest.raises(contextree.ConnectError, match=words) as caught:
        far()
    assert caught.value.phase == "boot"
    assert str(caught.value).isprintable()


def test_p_51_forced_command_that_says_nothing(far, authorized):
    authorized('command="exec sleep 600"')
    with pytest.raises(contextree.ConnectTimeout) as caught:
        far(connect_timeout=1)
    assert caught.value.phase == "connect"


# -- limits


def test_no_session_left(far):
    with pytest.raises(contextree.ConnectError, match="MaxSessions") as caught:
        far("closed")
    assert caught.value.status == 255


def test_too_many_that_log_in(far, odd):
    port = odd.ports["busy"]
    with socket.create_connection(("127.0.0.1", port)) as first:
        assert first.recv(4) == b"SSH-"
        with pytest.raises(contextree.ConnectError, match="MaxStartups") as caught:
            far("busy")
        assert caught.value.phase == "connect"


# -- P-69, P-70


def test_p_70_a_banner_with_prompts_in_it_is_no_prompt(far, odd):
    with pytest.raises(contextree.AuthenticationError) as caught:
        far("banner", password="Canary wrong", extra_args=["-o", "PubkeyAuthentication=no"])
    assert "was refused (the host takes" in str(caught.value)
    with far("banner") as web:
        assert web.call(whoami) == odd.accounts["banner"]


def test_p_70_noise_of_every_start_file(far, odd):
    """A message of the day in imitation, prompts included, on stdout and stderr, before the handshake."""
    if "mksh" not in odd.accounts:
        pytest.skip("mksh is not installed")
    odd_rc = pathlib.Path(odd.directory, "keys", odd.accounts["mksh"])
    saved = odd_rc.read_text()
    odd_rc.write_text('command="printf \'Password: \'; echo Permission denied >&2; echo Last login: today; '
                      'sh -c \\"$SSH_ORIGINAL_COMMAND\\"" ' + saved)
    try:
        with far("mksh", password="Canary") as web:
            assert web.call(abs, -1) == 1
    finally:
        odd_rc.write_text(saved)


# -- servers, addresses


def test_dropbear(far, odd):
    if "dropbear" not in odd.ports:
        pytest.skip("dropbear is not installed")
    with far("dropbear") as web:
        assert web.call(whoami) == odd.accounts["free"]
        with web.local() as below:
            assert below.call(len, bytes(300_000)) == 300_000
    with pytest.raises(contextree.AuthenticationError):
        far("dropbear", password="wrong", extra_args=["-o", "PubkeyAuthentication=no"])


@pytest.mark.parametrize("form", ["{user}@[::1]", "::1"])
def test_s_28_ipv6_address(router, odd, form):
    if not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("no IPv6 on this machine")
    user = odd.accounts["free"]
    options = {} if "@" in form else {"user": user}
    with router.ssh(form.format(user=user), port=odd.ports["odd"], known_hosts=odd.known_hosts, ssh_config="/dev/null",
                    identity_file=odd.key, extra_args=["-o", "IdentityAgent=none"], **options) as web:
        assert web.call(whoami) == user
        assert web.call(os.getenv, "SSH_CONNECTION").startswith("::1 ")
        assert web.name == "ssh.::1:%d" % odd.ports["odd"]


def test_s_28_nothing_of_a_host_name_is_run(router, tmp_path):
    for host in ("-oProxyCommand=touch %s/x" % tmp_path, "a;touch %s/x" % tmp_path, "$(touch %s/x)" % tmp_path):
        with pytest.raises(contextree.UsageError):
            router.ssh(host)
        with pytest.raises(contextree.UsageError):
            router.ssh("h", user=host)
        with pytest.raises(contextree.UsageError):
            router.ssh("h", jump=host)
    assert list(tmp_path.iterdir()) == []


def test_match_exec_of_ssh_config(far, odd, tmp_path):
    config = tmp_path / "config"
    marks = tmp_path / "marks"
    config.write_text('Match host elsewhere exec "echo %%h >>%s"\n  User %s\n' % (marks, odd.accounts["free"])
                      + pathlib.Path(odd.ssh_config).read_text())
    with far("elsewhere", ssh_config=config) as web:
        assert web.call(whoami) == odd.accounts["free"]
    assert marks.read_text().split() == ["elsewhere"]
    with far("elsewhere", ssh_config=config, password="not asked for") as web:  # ssh -G reads it too
        assert web.call(abs, -1) == 1
    assert marks.read_text().split() == ["elsewhere"] * 3


# -- S-27


def test_s_27_known_hosts_that_cannot_be_read(far, odd, tmp_path):
    """By an account that may not: it is as if nobody were known."""
    account = odd.accounts["banner"]
    folder = pathlib.Path("~" + account).expanduser()
    key, known = folder / "key", folder / "known"
    key.write_bytes(pathlib.Path(odd.key).read_bytes())
    known.write_bytes(pathlib.Path(odd.known_hosts).read_bytes())
    for path, mode in ((key, 0o600), (known, 0o644)):
        path.chmod(mode)
    os.chown(key, pwd.getpwnam(account).pw_uid, -1)
    as_account = ["setpriv", "--reuid", account, "--clear-groups", "env", "HOME=%s" % folder, "ssh"]
    options = {"ssh": as_account, "identity_file": key, "known_hosts": known}
    with far(**options) as web:
        assert web.call(abs, -1) == 1
    known.chmod(0o600)
    with pytest.raises(contextree.HostKeyError, match="cannot be read"):
        far(**options)
    with pytest.raises(contextree.HostKeyError):
        far(**dict(options, host_keys="strict", extra_args=["-o", "StrictHostKeyChecking=no"]))


SILENT = """\
Host *
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  NoHostAuthenticationForLocalhost yes
  CheckHostIP no
"""


def test_s_27_ssh_config_cannot_switch_the_check_off(far, odd, tmp_path):
    config = tmp_path / "config"
    config.write_text(SILENT + pathlib.Path(odd.ssh_config).read_text())
    for options in ({}, {"host_keys": "accept-new", "known_hosts": tmp_path / "none"}):
        if options:
            with far(ssh_config=config, **options):
                assert (tmp_path / "none").read_text()
        else:
            with pytest.raises(contextree.HostKeyError):
                far(ssh_config=config)


@pytest.mark.parametrize("ssh", ["ssh -o StrictHostKeyChecking=no", ["ssh", "-oUserKnownHostsFile=/dev/null"],
                                 ["ssh", "-o", "ForwardAgent yes"]])
def test_s_27_options_in_the_place_of_the_program_are_refused(far, ssh):
    with pytest.raises(contextree.UsageError, match="extra_args="):
        far(ssh=ssh)


def jump_config(odd, tmp_path, known, more=""):
    """An ssh_config in which ``gate`` is another sshd, and ``free`` the one behind it."""
    config = tmp_path / "config"
    text = pathlib.Path(odd.ssh_config).read_text()
    config.write_text("Host gate gate2\n  User %s\n  Port %d\n%s" % (odd.accounts["free"], odd.ports["busy"], more)
                      + text.replace(odd.known_hosts, str(known)))
    return config


def accepted(odd, daemon):
    return pathlib.Path(odd.daemons[daemon]["log"]).read_text().count("Accepted publickey")


@pytest.mark.parametrize("jump", ["gate", ["gate", "gate2"], "{user}@gate:{port}"], ids=["one", "two", "full"])
def test_jumps(far, odd, tmp_path, jump):
    if isinstance(jump, str):
        jump = jump.format(user=odd.accounts["free"], port=odd.ports["busy"])
    before = accepted(odd, "busy")
    with far(jump=jump, ssh_config=jump_config(odd, tmp_path, odd.known_hosts)) as web:
        assert web.call(whoami) == odd.accounts["free"]
    until(lambda: accepted(odd, "busy") >= before + (2 if isinstance(jump, list) else 1), "the hops in the log")


@pytest.mark.parametrize("why", ["unknown", "changed"])
def test_s_27_jumps_are_checked_whatever_ssh_config_says(far, odd, tmp_path, why):
    known = tmp_path / "known"
    known.write_text(odd.known("odd") + ("" if why == "unknown" else odd.known("busy").split()[0] + " "
                                         + " ".join(pathlib.Path(odd.ca + ".pub").read_text().split()[:2]) + "\n"))
    config = jump_config(odd, tmp_path, known, SILENT.replace("Host *\n", "").replace("/dev/null", str(known)))
    words = {"unknown": "is not known", "changed": "has changed"}[why]
    for options in ({}, {"password": "x"}, {"host_keys": "off"}):
        with pytest.raises(contextree.HostKeyError, match=words):
            far(jump="gate", ssh_config=config, **options)


def test_s_27_a_jump_of_ssh_config_is_checked_too(far, odd, tmp_path):
    known = tmp_path / "known"
    known.write_text(odd.known("odd"))
    config = jump_config(odd, tmp_path, known)
    config.write_text("Host free\n  ProxyJump gate\n" + config.read_text().replace("StrictHostKeyChecking yes", ""))
    with pytest.raises(contextree.HostKeyError):
        far(ssh_config=config)
    known.write_text(pathlib.Path(odd.known_hosts).read_text())
    with far(ssh_config=config) as web:
        assert web.call(abs, -1) == 1


def test_windows_is_refused_politely():
    from contextree.core import first_stage

    text = "import sys; sys.platform = \"win32\"; " + first_stage.text()
    done = subprocess.run(["/usr/bin/python3", "-c", text], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "contextree: Windows cannot be a target\n")


CMD = "'sh' is not recognized as an internal or external command,\r\noperable program or batch file.\r\n"
POWERSHELL = ("sh : The term 'sh' is not recognized as the name of a cmdlet, function, script file, or operable "
              "program.\r\nAt line:1 char:1\r\n")


@pytest.mark.parametrize("said", [CMD, POWERSHELL], ids=["cmd", "powershell"])
def test_windows_shells(far, odd, authorized, tmp_path, said):
    words = pathlib.Path(odd.directory, "windows")
    words.write_text(said)
    authorized('command="cat %s >&2; exit 1"' % words)
    with pytest.raises(contextree.ConnectError, match="the host runs Windows"):
        far()
