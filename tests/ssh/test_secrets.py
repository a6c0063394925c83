"""Secrets: one-time codes, expired passwords, agents, certificates; and where none of them may be seen."""

import os
import pathlib
import pwd
import re
import subprocess
import sys

import pytest

import contextree
from tests.lab import processes
from tests.lab.poll import until


def whoami():
    return pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture(scope="module")
def keyless(odd, tmp_path_factory):
    """An ssh_config without keys."""
    path = tmp_path_factory.mktemp("keyless") / "config"
    lines = pathlib.Path(odd.ssh_config).read_text().splitlines()
    path.write_text("\n".join(line for line in lines if "IdentityFile" not in line) + "\n  IdentityFile none\n")
    return path


@pytest.fixture
def coded(odd):
    """Skips where the machine has no PAM module for one-time codes."""
    if odd.code_secret is None:
        pytest.skip("libpam-google-authenticator is not installed")


# -- one-time codes


@pytest.mark.parametrize("kind", ["str", "Secret", "function"])
def test_password_and_one_time_code(far, odd, keyless, coded, kind):
    otp = {"str": odd.code, "Secret": lambda: contextree.Secret(odd.code()), "function": lambda: odd.code}[kind]()
    with far("code", password=odd.password, otp=otp, ssh_config=keyless) as web:
        assert web.call(whoami) == odd.accounts["code"]


def test_a_key_then_password_and_one_time_code(far, odd, coded):
    with far("both", password=odd.password, otp=odd.code) as web:
        assert web.call(whoami) == odd.accounts["both"]


def test_the_function_is_called_only_when_the_host_asks(far, odd, coded):
    calls = []
    with far("free", otp=lambda: calls.append(1) or "0"):
        assert calls == []


def test_the_function_runs_here_and_only_its_code_goes_to_who_starts_ssh(router, far, odd, keyless, coded):
    where = []

    def code():
        where.append(os.getpid())
        return odd.code()

    options = {"password": odd.password, "otp": code, "ssh_config": keyless}
    with router.local(name="between") as between, far("code", via=between, **options) as web:
        assert web.call(whoami) == odd.accounts["code"]
        assert web.parent is between
    assert where == [os.getpid()]


def test_from_the_oldest_python(router, odd, keyless, coded, pythons):
    """The dialogue, the look at a control socket and the search go with what a context of Python 3.6 has."""
    if "3.6" not in pythons or pythons["3.6"].origin == "chroot":
        pytest.skip("no Python 3.6 on this machine")
    with router.local(python=pythons["3.6"].argv) as old:
        with old.ssh("code", password=odd.password, otp=odd.code, ssh_config=keyless) as web:
            assert web.call(whoami) == odd.accounts["code"]
        with pytest.raises(contextree.ConnectError, match="is not used"):
            old.ssh("free", ssh_config=odd.ssh_config, control_path="/tmp/x")


def test_a_function_that_takes_its_time_does_not_hold_up_the_loop(router, far, odd, keyless, coded):
    with router.local() as other:

        def code():
            assert other.call(abs, -7) == 7  # the loop turns while somebody looks for his telephone
            return odd.code()

        with far("code", password=odd.password, otp=code, ssh_config=keyless) as web:
            assert web.call(abs, -1) == 1


def boom():
    raise RuntimeError("no battery")


@pytest.mark.parametrize("otp, why", [
    ("000000", "refused"), (None, "one-time code, and otp= was not given"), (boom, "RuntimeError: no battery"),
    (lambda: None, "otp= returned None"), (lambda: 123456, "otp= wants a str, not int"), (lambda: "a\nb", "line end"),
], ids=["wrong", "none", "raises", "gives None", "gives int", "gives two lines"])
def test_codes_that_are_none(far, odd, keyless, coded, otp, why):
    with pytest.raises(contextree.AuthenticationError, match=why) as caught:
        far("code", password=odd.password, otp=otp, ssh_config=keyless)
    assert caught.value.phase == "login"
    assert "000000" not in str(caught.value) + caught.value.output


def test_wrong_password_and_right_code(far, odd, keyless, coded):
    with pytest.raises(contextree.AuthenticationError, match="refused"):
        far("code", password="Canary wrong", otp=odd.code, ssh_config=keyless)


def test_a_login_that_ends_while_the_function_runs(router, far, odd, keyless, coded):
    """The host gives up first: the answer comes too late and goes nowhere."""
    import threading

    late = threading.Event()
    with pytest.raises(contextree.ConnectTimeout) as caught:
        far("code", password=odd.password, otp=lambda: late.wait(20) and "1", ssh_config=keyless,
            connect_timeout={"login": 1})
    assert caught.value.phase == "login"
    late.set()
    with router.local() as other:
        assert other.call(abs, -1) == 1


# -- expired passwords


def test_expired_password_is_an_error_and_the_change_is_not_answered(far, odd, keyless, coded):
    """By keyboard-interactive PAM would take a new password: it gets none."""
    shadow = pathlib.Path("/etc/shadow").read_text()
    with pytest.raises(contextree.AuthenticationError, match="the password has expired and must be changed") as caught:
        far("expired", password=odd.password, otp=odd.code, ssh_config=keyless)
    assert caught.value.phase == "login"
    line = re.compile("(?m)^%s:.*$" % odd.accounts["expired"])
    assert line.search(shadow).group() == line.search(pathlib.Path("/etc/shadow").read_text()).group()


def test_expired_password_with_a_key(far, coded):
    with pytest.raises(contextree.AuthenticationError, match="the password has expired") as caught:
        far("expired")
    assert (caught.value.phase, caught.value.status) == ("login", 1)


# -- keys, agents, certificates


@pytest.fixture
def agent(odd, tmp_path):
    """A private agent: its socket; keys are added by ``ssh-add`` with it."""
    path = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL) as process:
        until(path.exists, "the agent")
        yield path
        process.terminate()


def test_key_of_an_agent(far, odd, keyless, agent, monkeypatch):
    options = {"ssh_config": keyless, "extra_args": ["-o", "IdentityAgent=%s" % agent, "-o", "IdentitiesOnly=no"]}
    with pytest.raises(contextree.AuthenticationError):
        far(**options)
    subprocess.run(["ssh-add", "-q", odd.key], env=dict(os.environ, SSH_AUTH_SOCK=str(agent)), check=True)
    with far(**options) as web:
        assert web.call(whoami) == odd.accounts["free"]
        assert web.call(os.getenv, "SSH_AUTH_SOCK") is None  # S-29
    with far(forward_agent=True, **options) as web:
        assert web.call(os.getenv, "SSH_AUTH_SOCK")


def test_locked_key_that_the_agent_has_open(far, odd, keyless, agent, tmp_path):
    """Nobody asks for the passphrase then."""
    askpass = tmp_path / "askpass"
    askpass.write_text("#!/bin/sh\necho '%s'\n" % odd.passphrase)
    askpass.chmod(0o700)
    subprocess.run(["ssh-add", "-q", odd.passphrase_key], check=True, stdin=subprocess.DEVNULL, env=dict(
        os.environ, SSH_AUTH_SOCK=str(agent), SSH_ASKPASS=str(askpass), SSH_ASKPASS_REQUIRE="force"))
    odd.authorize(key=odd.passphrase_key)
    try:
        with far(identity_file=odd.passphrase_key, ssh_config=keyless,
                 extra_args=["-o", "IdentityAgent=%s" % agent]) as web:
            assert web.call(abs, -1) == 1
    finally:
        odd.authorize()


def sign(odd, tmp_path, *options):
    key = tmp_path / "id_signed"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    subprocess.run(["ssh-keygen", "-q", "-s", odd.ca, "-I", "test", *options, str(key) + ".pub"], check=True)
    return key


def test_certificate_of_a_user(far, odd, keyless, tmp_path):
    key = sign(odd, tmp_path, "-n", odd.accounts["free"], "-V", "-1m:+5m")
    with far(identity_file=key, ssh_config=keyless) as web:
        assert web.call(whoami) == odd.accounts["free"]


def test_certificates_that_are_refused(far, odd, keyless, tmp_path):
    for number, options in enumerate((("-n", odd.accounts["free"], "-V", "20200101:20200102"), ("-n", "somebody"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(contextree.AuthenticationError):
            far(identity_file=sign(odd, folder, *options), ssh_config=keyless)


def test_s_27_certificate_of_a_host(far, odd, tmp_path):
    known = tmp_path / "known"
    known.write_text("@cert-authority * " + pathlib.Path(odd.ca + ".pub").read_text())
    with far(known_hosts=known) as web:
        assert web.call(abs, -1) == 1
    known.write_text("@cert-authority * " + pathlib.Path(odd.other_key + ".pub").read_text())
    with pytest.raises(contextree.HostKeyError):
        far(known_hosts=known)
    known.write_text("@revoked * " + pathlib.Path(odd.directory, "host_key.pub").read_text()
                     + "@cert-authority * " + pathlib.Path(odd.ca + ".pub").read_text())
    with pytest.raises(contextree.HostKeyError):
        far(known_hosts=known)


# -- S-24


LOOK = """
import glob, sys
for name in ("cmdline", "environ", "status", "comm"):
    for path in glob.glob("/proc/[0-9]*/" + name):
        try:
            with open(path, "rb") as file:
                sys.stdout.buffer.write(file.read())
        except OSError:
            pass
"""


def as_nobody():
    """All that anybody on this machine can read of its processes."""
    return subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-I", "-c", LOOK],
                          stdout=subprocess.PIPE, check=True).stdout


def as_root():
    """The same and what only their owner may."""
    return subprocess.run([sys.executable, "-I", "-c", LOOK], stdout=subprocess.PIPE, check=True).stdout


def memory(pid):
    """What a core of a process would hold of what it may write."""
    out = bytearray()
    with open("/proc/%d/maps" % pid) as maps, open("/proc/%d/mem" % pid, "rb", 0) as mem:
        for line in maps:
            span, rights = line.split()[:2]
            if rights.startswith("rw"):
                start, end = (int(part, 16) for part in span.split("-"))
                try:
                    mem.seek(start)
                    out += mem.read(end - start)
                except OSError:
                    pass
    return bytes(out)


def test_s_24_a_canary_is_found_nowhere(router, far, odd, keyless, coded, caplog):
    caplog.set_level("DEBUG")
    code, seen = odd.code(), []

    def asked():
        seen.append(as_nobody() + as_root())  # in the middle of the login
        return code

    web = far("code", password=odd.password, otp=asked, ssh_config=keyless)
    with web:
        ssh = router.engine.children[web.id].process.pid
        seen += [as_nobody(), as_root(), memory(web.pid), memory(ssh), repr(web.facts).encode()]
        seen += [str(router.tree()).encode()]
        web.call(abs, -1)
        plan = router.engine.children[web.id].plan
        shown = [repr(plan), repr(plan.dialogue), repr(plan.argv), repr(plan.dialogue.rules), repr(vars(plan.dialogue))]
    with pytest.raises(contextree.AuthenticationError) as caught:
        far("code", password=odd.password, otp=lambda: "999999", ssh_config=keyless)
    error = caught.value
    while error is not None:
        shown += [str(error), repr(error), repr(vars(error))]
        error = error.__cause__ or error.__context__
    assert b"contextree" in seen[0]
    secret = odd.password.split()[-1].encode()  # other tests, of this run or another's, have canaries of their own
    for text in [*seen, *(part.encode() for part in [*shown, caplog.text])]:
        assert secret not in text
        assert b"otp" not in text or code.encode() not in text


def test_s_24_options_do_not_show_in_errors(far, odd):
    for options in ({"password": "Canary\n"}, {"passphrase": "Canary\0"}, {"otp": "Canary\r"}):
        with pytest.raises(contextree.UsageError) as caught:
            far(**options)
        assert "Canary" not in str(caught.value)


def test_p_73_s_25_what_ps_shows_of_a_remote_child(router, far):
    with far() as web, web.local() as below:
        for context, starter in ((web, os.getpid()), (below, web.pid)):
            words = pathlib.Path("/proc/%d/cmdline" % context.pid).read_bytes().rstrip(b"\0").split(b"\0")
            assert words[-1] == b"contextree:%d@%d" % (context.id, starter)
            visible = b" ".join(words)
            assert pwd.getpwuid(os.getuid()).pw_name.encode() + b"@" not in visible
            assert os.uname().nodename.encode() not in visible
            assert b"ssh" not in visible


def test_no_process_of_a_login_is_left(odd):
    """What the tests above started is gone."""
    mine = [who for who in processes.descendants(os.getpid()) if processes.alive(who)]
    assert not [who for who in mine if processes.command_line(who[0]).startswith("ssh ")]
