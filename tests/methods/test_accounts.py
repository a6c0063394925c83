"""sudo, su, doas and runuser with real accounts: what they say no to, their options, stacks of them."""

import concurrent.futures
import os
import pwd
import re
import shutil
import subprocess

import pytest

import contextree
from tests.lab.poll import until
from tests.methods.there import who

METHODS = ("sudo", "su", "doas")


def secret(accounts, method):
    """The password that this method asks for."""
    return accounts.target_password if method == "su" else accounts.password


def test_each_asks_for_its_own_password(become, accounts):
    ann = become("ann")
    for method in METHODS:
        with getattr(ann, method)(accounts.dan, password=secret(accounts, method)) as dan:
            assert dan.call(who) == accounts.dan
            assert dan.name == "ann.%s.%s" % (method, accounts.dan)
            assert dan.facts["method"] == method
            assert dan.call(os.path.expanduser, "~") == pwd.getpwnam(accounts.dan).pw_dir


def test_those_who_need_none_need_none(become, accounts):
    bob = become("bob")
    for method in ("sudo", "doas"):
        for password in None, accounts.password:
            with getattr(bob, method)(password=password) as root:
                assert root.call(os.getuid) == 0


NO = [
    # who asks, how, as whom, with what; what comes of it
    ("ann", "sudo", "root", {"password": "wrong"}, "login", "sudo refused: the password is wrong"),
    ("ann", "su", "dan", {"password": "wrong"}, "login", "su refused: the password is wrong"),
    ("ann", "doas", "root", {"password": "wrong"}, "login", "doas refused: the password is wrong"),
    ("ann", "sudo", "root", {}, "login", "sudo asks for a password, and password= was not given"),
    ("ann", "su", "dan", {}, "login", "su asks for a password, and password= was not given"),
    ("ann", "doas", "root", {}, "login", "doas asks for a password, and password= was not given"),
    ("old", "sudo", "root", {"password": "own"}, "login", "password has expired and must be changed first"),
    ("old", "doas", "root", {"password": "own"}, "login", "password has expired and must be changed first"),
    ("ann", "su", "told", {"password": "target"}, "login", "password has expired and must be changed first"),
    ("shut", "doas", "root", {"password": "own"}, "login", "the account is locked"),
    ("ann", "su", "tshut", {"password": "target"}, "login", "the account is locked"),
    ("gone", "sudo", "root", {"password": "own"}, "login", "locked or has expired"),
    ("gone", "doas", "root", {"password": "own"}, "login", "the account that runs doas has expired"),
    ("ann", "su", "tgone", {"password": "target"}, "login", "the account has expired"),
    ("out", "sudo", "root", {"password": "own"}, "login", "may not use sudo: .* is not in the sudoers file"),
    ("out", "doas", "root", {"password": "own"}, "login", "doas does not allow this"),
    ("few", "sudo", "root", {"password": "own"}, "login", "sudo does not allow .*-few to run this"),
    ("few", "doas", "root", {}, "login", "doas does not allow this"),
    ("term", "sudo", "root", {}, "login", r"\(requiretty in its sudoers\); say tty=True"),
    ("bob", "sudo", "no-such", {}, "connect", "there is no account no-such"),
    ("bob", "sudo", "dan", {"group": "no-such"}, "connect", "there is no group no-such"),
    ("ann", "su", "no-such", {"password": "own"}, "connect", "there is no account no-such"),
    ("bob", "doas", "no-such", {}, "connect", "there is no such account"),
    ("ann", "runuser", "dan", {}, "login", "only root may use runuser"),
    ("ann", "su", "nob", {"password": "target"}, "boot", "login shell runs nothing .*not available"),
    ("ann", "sudo", "root", {"password": "own", "sudo": "no-such-sudo"}, "start", "no-such-sudo"),
    ("bob", "sudo", "root", {"sudo": "no-such-sudo"}, "start", "no-such-sudo"),
    ("ann", "su", "dan", {"password": "target", "python": "/no-such-python"}, "boot", "no such Python.*/no-such-py"),
    ("bob", "doas", "dan", {"python": "/etc"}, "boot", "cannot run this Python.*/etc"),
]


def test_everything_that_can_be_refused_is_one_clear_error(become, accounts):
    contexts = {short: become(short) for short in {row[0] for row in NO}}

    def attempt(row):
        caller, method, target, options, phase, text = row
        own = {"own": accounts.password, "target": accounts.target_password}
        options = {key: own.get(value, value) for key, value in options.items()}
        try:
            getattr(contexts[caller], method)(getattr(accounts, target, target), **options).shutdown()
        except contextree.ConnectError as error:
            is_login = type(error) is contextree.AuthenticationError
            right = is_login is (phase == "login") and error.phase == phase and re.search(text, str(error))
            return None if right else (row, type(error), error.phase, str(error), error.output)
        return row, "was let in"

    with concurrent.futures.ThreadPoolExecutor(len(NO)) as pool:  # PAM takes its time over a refusal
        wrong = [found for found in pool.map(attempt, NO) if found]
    assert wrong == []


GERMAN = all(os.path.exists("/usr/share/locale/de/LC_MESSAGES/%s.mo" % name) for name in ("Linux-PAM", "sudo"))


@pytest.mark.skipif(not GERMAN, reason="sudo and PAM speak no German here: their translations are not installed")
@pytest.mark.parametrize("language, method, password, text", [
    ("de", "sudo", "right", None),
    ("de", "su", "right", None),
    ("de", "doas", "right", None),
    ("de", "su", "wrong", "su was given the password and refused: su: Fehler"),
    ("de", "sudo", "wrong", "sudo refused: the password is wrong"),
    ("de", "sudo", None, "sudo refused: sudo: Ein Passwort ist notwendig"),
    ("de", "su", None, "su asks for a password, and password= was not given"),
    ("fr", "su", "right", None),
    ("ja", "su", "right", None),
    ("ja", "sudo", "right", None),
])
def test_in_other_languages(become, accounts, language, method, password, text):
    ann = become("ann", LANGUAGE=language)
    password = {"right": secret(accounts, method)}.get(password, password)
    if text is None:
        with getattr(ann, method)(accounts.dan, password=password) as dan:
            assert dan.call(who) == accounts.dan
    else:
        with pytest.raises(contextree.AuthenticationError, match=text) as caught:
            getattr(ann, method)(accounts.dan, password=password)
        assert caught.value.phase == "login"


@pytest.mark.skipif(not GERMAN, reason="sudo and PAM speak no German here: their translations are not installed")
def test_it_was_not_english_that_was_spoken(become, accounts):
    with pytest.raises(contextree.AuthenticationError) as caught:
        become("ann", LANGUAGE="de").su(accounts.dan)
    assert "Passwort:" in caught.value.output


def test_the_refused_password_was_sent_once(become, accounts):
    with pytest.raises(contextree.AuthenticationError) as caught:
        become("chat").sudo(password="wrong")  # it may try three times
    assert caught.value.output.count("********") == 1
    assert "wrong" not in caught.value.output and "wrong" not in caught.value.command


# ---------------------------------------------------------------------------------------------------------- options

def test_sudo_that_greets_shows_asterisks_and_insults(become, accounts):
    with become("chat").sudo(password=accounts.password) as root:
        assert root.call(os.getuid) == 0


def test_requiretty(become, accounts):
    with become("term").sudo(tty=True) as root:
        assert root.call(os.getuid) == 0


def test_sudo_and_the_environment(become, accounts):
    ann = become("ann", CTXT_KEPT="1", CTXT_OTHER="2")
    names = ["CTXT_KEPT", "CTXT_OTHER", "HOME", "PYTHONSAFEPATH"]
    home = {short: pwd.getpwnam(getattr(accounts, short)).pw_dir for short in ("ann", "dan")}
    for options, kept in [
        ({}, ["1", None, home["dan"], None]),
        ({"preserve_env": True}, ["1", "2", home["dan"], None]),
        ({"preserve_env": ["CTXT_OTHER"]}, ["1", "2", home["dan"], None]),
        ({"preserve_env": True, "set_home": False}, ["1", "2", home["ann"], None]),
    ]:
        with ann.sudo(accounts.dan, password=accounts.password, **options) as dan:
            assert [dan.call(os.getenv, name) for name in names] == kept, options


@pytest.mark.parametrize("method", ["sudo", "su", "runuser"])
def test_login(become, accounts, router, method):
    home = pwd.getpwnam(accounts.dan).pw_dir
    profile = os.path.join(home, ".profile")
    with open(profile, "w") as file:
        file.write("CTXT_PROFILE=read; export CTXT_PROFILE; echo noise of the profile; echo more >&2\n")
    try:
        parent = router if method == "runuser" else become("ann")
        options = {} if method == "runuser" else {"password": secret(accounts, method)}
        with getattr(parent, method)(accounts.dan, login=True, **options) as dan:
            assert dan.call(os.getenv, "CTXT_PROFILE") == "read"
            assert dan.call(os.getcwd) == home
        with getattr(parent, method)(accounts.dan, **options) as dan:
            assert dan.call(os.getenv, "CTXT_PROFILE") is None
    finally:
        os.unlink(profile)


def test_any_login_shell(become, accounts, router):
    ann = become("ann")
    assert accounts.shells
    for shell, user in accounts.shells.items():
        for context in (ann.su(user, password=accounts.target_password),
                        ann.su(user, password=accounts.target_password, login=True),
                        ann.sudo(user, password=accounts.password, login=True),
                        router.runuser(user, shell=None, login=True)):
            with context:
                assert context.call(who) == user, shell
                with context.fork() as below:
                    assert below.call(who) == user


def test_another_shell_and_group(become, accounts, router):
    with router.runuser(accounts.nob, group="games") as nob:
        assert (nob.call(who), nob.call(os.getgid)) == (accounts.nob, pwd.getpwnam("games").pw_gid)
    with become("ann").su(accounts.dan, password=accounts.target_password, shell="/bin/dash") as dan:  # noqa: S604
        assert dan.call(os.getenv, "SHELL") == "/bin/dash"
    with become("bob").sudo(accounts.dan, group="games") as dan:
        assert dan.call(os.getgid) == pwd.getpwnam("games").pw_gid


def test_su_of_busybox(become, accounts, tmp_path):
    if not shutil.which("busybox"):
        pytest.skip("busybox is not installed")
    busybox = os.path.join(accounts.directory, "su")
    shutil.copy(shutil.which("busybox"), busybox)
    os.chown(busybox, 0, pwd.getpwnam(accounts.ann).pw_gid)
    os.chmod(busybox, 0o4750)  # nobody else may run it
    try:
        ann = become("ann")
        for user in accounts.dan, accounts.shells.get("tcsh", accounts.dan):
            with ann.su(user, password=accounts.target_password, su=busybox) as context:
                assert context.call(who) == user
        with pytest.raises(contextree.AuthenticationError, match="su refused: the password is wrong"):
            ann.su(accounts.dan, password="wrong", su=busybox)
        with pytest.raises(contextree.AuthenticationError, match="password= was not given"):
            ann.su(accounts.dan, su=busybox)
    finally:
        os.unlink(busybox)


@pytest.mark.skipif(not shutil.which("sudo-rs"), reason="sudo-rs is not installed")
def test_sudo_rs_and_su_rs(become, accounts):
    ann = become("ann")
    with ann.sudo(accounts.dan, password=accounts.password, sudo="sudo-rs") as dan:
        assert dan.call(who) == accounts.dan
    with ann.su(accounts.dan, password=accounts.target_password, su="su-rs") as dan:
        assert dan.call(who) == accounts.dan
    for options, text in (({"password": "wrong"}, "sudo refused"), ({}, "password= was not given")):
        with pytest.raises(contextree.AuthenticationError, match=text):
            ann.sudo(accounts.dan, sudo="sudo-rs", **options)


def test_any_python_of_the_account(become, accounts, pythons):
    if "chroot" in {python.origin for python in pythons.values()} and not os.path.exists("/usr/bin/python3"):
        pytest.skip("no Python that other accounts may run")
    with become("bob").sudo(accounts.dan, python=["/usr/bin/python3", "-I"]) as dan:
        assert dan.facts["executable"].startswith("/usr/bin/python3")


# ----------------------------------------------------------------------------------------------------------- stacks

def grow(context, accounts, method):
    """One more account on top: as dan by turns and ann, whose passwords are asked for."""
    here = context.call(who)
    target = accounts.dan if here != accounts.dan else accounts.ann
    options = {}
    if method == "su":
        options["password"] = accounts.target_password if target == accounts.dan else accounts.password
    elif method in ("sudo", "doas") and here == accounts.ann:
        options["password"] = accounts.password
    return getattr(context, method)(target, **options)


@pytest.mark.parametrize("stack", [
    ("sudo", "su", "doas", "sudo"), ("su", "sudo", "su", "doas"), ("doas", "doas", "sudo", "su"),
    ("su", "su", "su", "su", "su", "su"), ("sudo",) * 5, ("doas",) * 5,
], ids="-".join)
def test_become_of_a_become(become, accounts, stack):
    context = become("ann")
    for method in stack:
        context = grow(context, accounts, method)
    expected = accounts.dan if len(stack) % 2 else accounts.ann
    assert context.call(who) == expected
    assert [part for part in context.name.split(".") if part in METHODS] == list(stack)
    assert list(context.stream(range, 1000)) == list(range(1000))


def test_stacks_in_parallel_below_one_context(become, accounts):
    ann = become("ann")

    def stack(methods):
        context = ann
        for method in methods:
            context = grow(context, accounts, method)
        return context.call(who)

    stacks = [("sudo", "su"), ("su", "doas"), ("doas", "sudo"), ("su", "sudo"), ("sudo", "doas"), ("doas", "su")] * 2
    with concurrent.futures.ThreadPoolExecutor(len(stacks)) as pool:
        assert list(pool.map(stack, stacks)) == [accounts.ann] * len(stacks)


def test_below_ssh_and_runuser_below_sudo(router, accounts, sshd):
    with router.ssh("key", ssh_config=sshd.ssh_config) as web:
        dan = web.su(accounts.dan, password=accounts.target_password)
        root = router.sudo(via=dan)
        nob = root.runuser(accounts.nob)
        again = router.su(accounts.dan, via=nob, password=accounts.target_password)
        assert [context.call(who) for context in (web, dan, root, nob, again)] == [
            sshd.key_user, accounts.dan, "root", accounts.nob, accounts.dan]
        assert again.name == f"ssh.key.su.{accounts.dan}.sudo.root.runuser.{accounts.nob}.su.{accounts.dan}"
        pids = [context.pid for context in (dan, root, nob, again)]
    until(lambda: not any(os.path.exists("/proc/%d" % pid) for pid in pids), "all of them to end")


def test_from_a_forked_context_and_forks_above(become, accounts):
    with become("ann").fork() as forked:
        dan = forked.su(accounts.dan, password=accounts.target_password)
        with dan.fork() as below:
            assert below.call(who) == accounts.dan
            assert below.call(subprocess.check_output, ["id", "-un"], text=True).strip() == accounts.dan
