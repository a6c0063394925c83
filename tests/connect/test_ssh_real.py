"""The plans of connect.ssh with the real ssh against a real sshd."""

import pathlib
import socket

import pytest

from contextree.connect import ssh


def target(lab, server, **options):
    """A plan for a server by address; nothing of the user's own configuration counts."""
    options.setdefault("ssh_config", "/dev/null")
    options.setdefault("known_hosts", lab.known)
    options.setdefault("extra_args", ["-o", "IdentityAgent=none"])
    return ssh.plan("127.0.0.1", port=server.port, **options)


def test_key_without_any_secret(lab, run):
    result = run(target(lab, lab.one, user=lab.key_user, identity_file=lab.plain_key))
    assert (result.hello, result.stderr) == (b"hello\n", b"")


@pytest.mark.parametrize("server", ["one", "two"])
def test_password_on_the_terminal(lab, run, server):
    result = run(target(lab, getattr(lab, server), user=lab.password_user, password=lab.password))
    assert (result.hello, result.replies) == (b"hello\n", 1)


def test_keyboard_interactive(lab, run):
    result = run(target(lab, lab.one, user=lab.password_user, password=lab.password,
                        extra_args=["-o", "PreferredAuthentications=keyboard-interactive"]))
    assert (result.hello, result.replies) == (b"hello\n", 1)


def test_password_for_a_name_of_ssh_config(lab, run):
    result = run(ssh.plan("final", user=lab.password_user, password=lab.password, ssh_config=lab.config))
    assert (result.hello, result.replies) == (b"hello\n", 1)


def test_s_19_without_the_probe_another_name_in_the_prompt_gets_nothing(lab, run):
    plan = ssh.plan("final", user=lab.password_user, password=lab.password, ssh_config=lab.config)
    plan.probe = None
    result = run(plan)
    assert result.replies == 0 and result.failed.error == "AuthenticationError"
    assert f"{lab.password_user}@127.0.0.1" in result.failed.message


def test_wrong_password(lab, run):
    result = run(target(lab, lab.two, user=lab.password_user, password="wrong"))
    assert result.replies == 1 and result.status == 255
    assert result.why[0] == "AuthenticationError" and result.why[2] == "login"
    assert lab.password_user in result.why[1]


def test_p_71_refused_password_is_not_sent_again(lab, run):
    plan = target(lab, lab.one, user=lab.password_user, password="wrong")
    plan.argv[plan.argv.index("NumberOfPasswordPrompts=1")] = "NumberOfPasswordPrompts=3"
    result = run(plan)
    assert result.replies == 1
    assert result.failed.error == "AuthenticationError" and "refused" in result.failed.message


def test_passphrase(lab, run):
    result = run(target(lab, lab.two, user=lab.key_user, identity_file=lab.locked_key, passphrase=lab.passphrase))
    assert (result.hello, result.replies) == (b"hello\n", 1)


def test_wrong_passphrase(lab, run):
    result = run(target(lab, lab.two, user=lab.key_user, identity_file=lab.locked_key, passphrase="wrong",
                        extra_args=["-o", "PreferredAuthentications=publickey"]))
    assert result.replies == 1 and result.why[0] == "AuthenticationError"


def test_locked_key_is_passed_over_for_the_password(lab, run):
    result = run(target(lab, lab.two, user=lab.password_user, identity_file=lab.locked_key, password=lab.password,
                        extra_args=["-o", f"IdentityFile={lab.locked_key}"]))
    assert result.hello == b"hello\n"


def test_without_a_secret_ssh_asks_nobody(lab, run):
    result = run(target(lab, lab.two, user=lab.password_user))
    assert result.why[0] == "AuthenticationError" and result.status == 255


def test_s_27_unknown_key_is_refused(lab, run, tmp_path):
    result = run(target(lab, lab.one, user=lab.key_user, identity_file=lab.plain_key, known_hosts=tmp_path / "none"))
    assert result.why[0] == "HostKeyError" and "ED25519" in result.why[1]
    assert not (tmp_path / "none").exists()


def test_s_27_unknown_key_is_refused_before_a_password_is_sent(lab, run, tmp_path):
    result = run(target(lab, lab.one, user=lab.password_user, password=lab.password, known_hosts=tmp_path / "none"))
    assert result.why[0] == "HostKeyError" and result.replies == 0


@pytest.mark.parametrize("host_keys", ["strict", "accept-new"])
def test_s_27_changed_key_is_refused(lab, run, tmp_path, host_keys):
    known = tmp_path / "known"
    known.write_text(lab.one.known(lab.two))
    result = run(target(lab, lab.one, user=lab.key_user, identity_file=lab.plain_key, known_hosts=known,
                        host_keys=host_keys))
    assert result.why[0] == "HostKeyError" and "changed" in result.why[1]


def test_s_27_unreadable_known_hosts_fails_closed(lab, run, tmp_path):
    result = run(target(lab, lab.one, user=lab.key_user, identity_file=lab.plain_key, known_hosts=tmp_path))
    assert result.why[0] == "HostKeyError"


def test_s_27_extra_args_cannot_switch_the_check_off(lab, run, tmp_path):
    result = run(target(lab, lab.one, user=lab.key_user, identity_file=lab.plain_key, known_hosts=tmp_path / "none",
                        extra_args=["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]))
    assert result.why[0] == "HostKeyError"


def test_accept_new_stores_the_key_in_a_path_with_blanks_and_percent(lab, run, tmp_path):
    known = tmp_path / "my %h known #1"
    plan = target(lab, lab.one, user=lab.key_user, identity_file=lab.plain_key, known_hosts=known,
                  host_keys="accept-new")
    assert run(plan).hello == b"hello\n" and "ssh-ed25519" in known.read_text()


def test_s_27_off_works_and_is_flagged(lab, run):
    plan = target(lab, lab.one, user=lab.key_user, identity_file=lab.plain_key, host_keys="off", known_hosts=None)
    assert run(plan).hello == b"hello\n" and "127.0.0.1" in plan.warnings[0]


def test_proxy_jump(lab, run):
    result = run(ssh.plan("final", user=lab.key_user, jump=f"{lab.key_user}@jump", ssh_config=lab.config,
                          extra_args=["-o", f"IdentityFile={lab.plain_key}"]))
    assert result.why[0] == "AuthenticationError"        # the jump has no key: -o does not reach it
    config = lab.folder / "config-with-key"
    config.write_text(lab.config.read_text().replace("IdentityFile none", f"IdentityFile {lab.plain_key}"))
    assert run(ssh.plan("final", user=lab.key_user, jump="jump", ssh_config=config)).hello == b"hello\n"
    assert f"Accepted publickey for {lab.key_user}" in lab.one.log.read_text()


@pytest.mark.parametrize("secret", [False, True])
def test_s_27_unknown_key_of_a_jump_is_refused(lab, run, tmp_path, secret):
    known, config = tmp_path / "known", tmp_path / "config"
    known.write_text(lab.two.known())
    config.write_text(lab.config.read_text().replace("IdentityFile none", f"IdentityFile {lab.plain_key}")
                      .replace(str(lab.known), str(known)))
    result = run(ssh.plan("final", user=lab.password_user if secret else lab.key_user, jump="jump", ssh_config=config,
                          password=lab.password if secret else None))
    assert (result.failed or result.why)[0] == "HostKeyError" and result.replies == 0


def test_s_19_a_jump_that_asks_does_not_get_the_password(lab, run):
    """One that is given here may not ask; one of ssh_config is not who the password is for."""
    result = run(ssh.plan("final", user=lab.key_user, jump=f"{lab.password_user}@jump", password=lab.password,
                          ssh_config=lab.config))
    assert result.replies == 0 and not result.failed
    assert result.why[0] == "AuthenticationError" and lab.password_user in result.why[1]
    config = lab.folder / "config-with-jump"
    config.write_text(f"Host final\n  ProxyJump {lab.password_user}@jump\n" + lab.config.read_text())
    result = run(ssh.plan("final", user=lab.key_user, password=lab.password, ssh_config=config))
    assert result.replies == 0 and result.failed.error == "AuthenticationError"


def test_refused_port(lab, run):
    with socket.socket() as taken:                      # bound and not listening: nobody else can get it
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        result = run(ssh.plan("127.0.0.1", port=port, ssh_config="/dev/null"))
    assert result.why[0] == "ConnectError" and result.why[2] == "connect"
    assert "127.0.0.1" in result.why[1] and str(port) in result.why[1]


def test_unknown_host_name(run):
    result = run(ssh.plan("no-such-host.invalid", ssh_config="/dev/null"))
    assert result.why[:1] == ("ConnectError",) and "no-such-host.invalid" in result.why[1]


@pytest.mark.parametrize("python, word", [("/no/such/python3", "has no such Python"), ("/etc/passwd", "cannot run")])
def test_python_that_does_not_run(lab, run, python, word):
    result = run(target(lab, lab.one, user=lab.key_user, identity_file=lab.plain_key, python=python))
    assert result.why[0] == "ConnectError" and result.why[2] == "boot"
    assert word in result.why[1] and "python=" in result.why[1]


def test_missing_ssh(run):
    plan = ssh.plan("h", ssh="no-such-ssh", password="x", ssh_config="/dev/null")
    plan.probe = None
    result = run(plan)
    assert result.why[0] == "ConnectError" and result.why[2] == "start" and "no-such-ssh" in result.why[1]


def test_python_of_several_words_and_in_the_home_directory(lab, run):
    home = pathlib.Path("~" + lab.key_user).expanduser()
    (home / "my python").symlink_to("/usr/bin/python3")
    stage = ["-c", "import os,sys; print(os.environ.get(\"X Y\"), flush=True)"]
    for python, said in ((["~/my python"], b"None\n"), ('/usr/bin/env "X Y=1 2" python3', b"1 2\n")):
        result = run(target(lab, lab.one, user=lab.key_user, identity_file=lab.plain_key, python=python), stage)
        assert result.hello == said


def test_s_24_secrets_are_in_no_argument_or_environment(lab, run):
    seen = []

    def look(_):
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    seen.append((process / name).read_bytes())
                except OSError:
                    continue
    for plan in (target(lab, lab.one, user=lab.password_user, password=lab.password),
                 target(lab, lab.one, user=lab.key_user, identity_file=lab.locked_key, passphrase=lab.passphrase)):
        result = run(plan, on_hello=look)
        assert result.hello == b"hello\n" and result.replies == 1
        assert "Canary" not in repr((plan, plan.argv, plan.probe, plan.env, plan.dialogue, result.output, result.why))
    assert any(b"127.0.0.1" in text for text in seen) and not any(b"Canary" in text for text in seen)
