"""What becomes of terminals and secrets of sudo, su and doas: with real accounts, and with stand-ins."""

import ast
import concurrent.futures
import contextlib
import glob
import logging
import os
import pwd
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest

import contextree
from contextree.connect.plan import PYTHON_SAFE
from tests.lab import processes
from tests.lab.accounts import as_user
from tests.lab.poll import until
from tests.methods import standin, there

CANARY = "Canary of a stand-in \\ $x 'y' ünd"


@pytest.fixture
def stand_in(router, tmp_path):
    """stand_in(method, how, **options) -> (context or error, what it was told: the words, then each answer)."""
    log = tmp_path / "log"

    def go(method, how, **options):
        python = [sys.executable, standin.__file__, how]
        options = {"password": CANARY, "python": sys.executable, method: python, **options}
        try:
            result = getattr(router, method)("dan", **options)
        except contextree.ContextreeError as error:
            result = error
        return result, [ast.literal_eval(line) for line in log.read_text().splitlines()]

    os.environ["STANDIN_LOG"] = str(log)
    yield go
    del os.environ["STANDIN_LOG"]


SENT = (CANARY + "\n").encode()


@pytest.mark.parametrize("method, how", [
    ("sudo", "sudo"), ("sudo", "sudo-rs"), ("doas", "doas"), ("su", "su"), ("su", "su-rs"), ("su", "busybox")])
def test_p_69_p_70_p_71_banners_pieces_and_asterisks(stand_in, method, how):
    context, told = stand_in(method, how)
    with context:
        assert context.call(divmod, 7, 2) == (3, 1)
        assert told[1:] == [SENT]
        assert not [word for word in told[0] if "Canary" in word]


def test_a_question_that_nobody_answers_is_in_the_error(stand_in):
    error, told = stand_in("sudo", "strange", connect_timeout=1)
    assert type(error) is contextree.ConnectTimeout and str(error).endswith("; its terminal asks: Colour of the day:")
    assert told[1:] in ([], [b""])


@pytest.mark.parametrize("how, answers, text", [
    ("sudo-rs-refuses", [SENT], "sudo refused: the password is wrong"),
    ("pam", [], "passprompt_override"),
    ("code", [SENT], "Verification code"),
])
def test_s_19_sudo_is_told_the_password_once_and_at_our_prompt_alone(stand_in, how, answers, text):
    error, told = stand_in("sudo", how)
    assert type(error) is contextree.AuthenticationError and text in str(error)
    assert error.phase == "login" and [answer for answer in told[1:] if answer.strip()] == answers
    assert "Canary" not in str(error) + error.output + error.command


def test_selinux_and_flags_arrive(stand_in):
    context, told = stand_in("sudo", "silent", role="sysadm_r", type="sysadm_t", extra_args="-C 9", group="games",
                             preserve_env=["LANG"], set_home=False)
    with context:
        assert told[0][2:] == ["--preserve-env=LANG", "-g", "games", "-r", "sysadm_r", "-t", "sysadm_t", "-C", "9",
                               "-u", "dan", "--", *told[0][14:]]
        assert told[0][:2][0] == "-p" and told[0][14] == "env"


def test_su_asks_nobody_without_a_password(stand_in):
    error, told = stand_in("su", "su", password=None)
    assert type(error) is contextree.AuthenticationError and "password= was not given" in str(error)
    assert told[1:] in ([], [b""])


# -------------------------------------------------------------------------------------------- descriptors and terminals

@pytest.mark.parametrize("method", ["sudo", "su", "doas", "runuser"])
def test_p_45_stderr_is_a_pipe_that_is_logged(become, accounts, router, caplog, method):
    options = {"password": accounts.target_password if method == "su" else accounts.password}
    parent = router if method == "runuser" else become("ann")
    with getattr(parent, method)(accounts.dan, **({} if method == "runuser" else options)) as dan:
        assert [dan.call(there.kind_of, fd) for fd in (0, 1, 2)] == ["other", "pipe", "pipe"]
        dan.call(os.write, 2, b"said on stderr by %s\n" % method.encode())
        until(lambda: "said on stderr by %s" % method in caplog.text, "the line in the log")


def test_p_45_where_a_shell_closes_the_pipe_stderr_is_the_terminal_and_logged_too(become, accounts, caplog):
    if "tcsh" not in accounts.shells:
        pytest.skip("tcsh is not installed")
    with become("ann").su(accounts.shells["tcsh"], password=accounts.target_password) as context:
        assert context.call(there.kind_of, 2) == "terminal"
        context.call(os.write, 2, b"said on a terminal\n")
        until(lambda: "said on a terminal" in caplog.text, "the line in the log")


@pytest.mark.parametrize("short", ["ann", "term", "bob"])  # bob's sudo has use_pty: another terminal in between
def test_p_46_dev_tty_of_the_child_is_our_terminal(become, accounts, caplog, short):
    with become(short).sudo(accounts.dan, password=accounts.password, tty=True) as dan:
        dan.call(there.write_to, "/dev/tty", b"said on /dev/tty of %s\n" % short.encode())
        until(lambda: "said on /dev/tty of %s" % short in caplog.text, "the line in the log")


def test_p_46_dev_tty_below_doas(become, accounts, caplog):
    with become("ann").doas(accounts.dan, password=accounts.password) as dan:
        dan.call(there.write_to, "/dev/tty", b"said on /dev/tty of doas\n")
        until(lambda: "said on /dev/tty of doas" in caplog.text, "the line in the log")


def test_p_47_the_hang_up_of_the_terminal_ends_a_login_that_waits(become, accounts):
    ann = become("ann")
    with pytest.raises(contextree.ConnectTimeout) as caught:  # it is root's: nothing but a hang-up reaches it
        ann.grow(contextree.Plan(["sudo", "-p", "never answered: ", "-u", accounts.dan, PYTHON_SAFE], "waits", "sudo",
                                 tty=True, phases={"connect": 0.5}))
    assert caught.value.phase == "connect"

    def left():
        return [pid for pid in processes.every() if "never answered" in processes.command_line(pid)]
    until(lambda: not left(), "sudo to end")


NO_PTY = """
import os, sys, contextree
held = os.openpty()
with contextree.Router() as router:
    router.local().shutdown()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        try:
            router.sudo(password="x")
        except contextree.ConnectError as error:
            print(error.phase, "kernel.pty.max" in str(error))
    print(len(os.listdir("/proc/self/fd")) - before)
"""


def test_p_48_no_terminal_to_be_had_is_a_readable_error_and_leaks_nothing():
    mounts = ("mount -t devpts -o newinstance,ptmxmode=0666,max=1 devpts /dev/pts && "
              'mount --bind /dev/pts/ptmx /dev/ptmx && exec "$@"')
    done = subprocess.run(["unshare", "-m", "sh", "-ec", mounts, "sh", sys.executable, "-c", NO_PTY],
                          capture_output=True, text=True, env=dict(os.environ, PYTHONPATH=os.getcwd()))
    assert done.stdout.splitlines() == ["start True"] * 3 + ["0"], done.stderr


def test_s_17_nothing_is_answered_after_the_login(become, accounts):
    ann = become("ann")
    prompts = [b"contextree 0123456789abcdef: ", b"Password: ", b"[sudo] password for x: ", b"doas (a@b) password: "]
    with ann.sudo(accounts.dan, password=accounts.password) as dan, \
            ann.doas(accounts.dan, password=accounts.password) as other:
        for prompt in prompts:
            assert dan.call(there.ask_on_terminal, b"\n" + prompt, 0.1) == b""
            assert other.call(there.ask_on_terminal, b"\n" + prompt, 0.1) == b""


def test_s_17_a_long_line_before_hello_costs_nothing(become, accounts):
    noise = 'head -c 2000000 /dev/zero | base64 -w 0 | tee /dev/stderr; printf "Password: "; exec python3 "$@"'
    with become("ann").su(accounts.dan, password=accounts.target_password, python=["sh", "-c", noise, "sh"]) as dan:
        assert dan.call(there.who) == accounts.dan


@pytest.mark.parametrize("short", ["bob", "ann"])
def test_s_19_a_profile_that_imitates_the_prompt_gets_nothing(become, accounts, short, tmp_path):
    """bob is asked for nothing, so his password is still unused when the profile of the account asks for it."""
    folder = Path(accounts.directory, "imitated")
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    profile = Path(pwd.getpwnam(accounts.dan).pw_dir, ".profile")
    ask = ("import os, select, sys\nf = os.open('/dev/tty', 2)\n"
           "for p in ('[sudo] password for bob: ', 'Password: ', 'contextree 0123456789abcdef: '):\n"
           " os.write(f, b'\\r\\n' + p.encode())\n"
           " if select.select([f], [], [], 0.1)[0]: print(os.read(f, 999))\nprint('asked')")
    profile.write_text("python3 -c \"%s\" >%s/told 2>&1\n" % (ask, folder))
    try:
        with pytest.raises(contextree.AuthenticationError, match=r"passprompt_override|expired"):
            become(short).sudo(accounts.dan, password=accounts.password, login=True)
        uid = {pwd.getpwnam(accounts.dan).pw_uid}
        until(lambda: not processes.owned_by(uid), "the profile to end")
        assert "Canary" not in (folder / "told").read_text()
    finally:
        profile.unlink()
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


# -------------------------------------------------------------------------------------------------------------- secrets

def everything_that_can_be_read():
    """Command lines and environments of all processes, as far as we may read them."""
    found = b""
    for name in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
        with contextlib.suppress(OSError):
            found += Path(name).read_bytes()
    return found


def seen_by_nobody():
    """The same as another account sees it."""
    look = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; ps auxwwe"
    found = as_user("nobody", "sh", "-c", look, text=False).stdout
    assert b"contextree:" in found
    return found


@pytest.mark.parametrize("method, wrong", [
    ("sudo", False), ("su", False), ("doas", False), ("sudo", True), ("su", True)])
def test_s_24_the_password_is_nowhere(become, accounts, caplog, method, wrong):
    caplog.set_level(logging.DEBUG)
    own = accounts.target_password if method == "su" else accounts.password
    password = contextree.Secret(own + "x" if wrong else own)
    ann = become("ann")
    seen = []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(getattr(ann, method), accounts.dan, password=password)
        while not future.done():  # PAM takes two seconds over a wrong one
            seen.append(everything_that_can_be_read())
            if len(seen) % 10 == 1:
                seen.append(seen_by_nobody())
            time.sleep(0.2)  # sleeps: looks now and then for as long as the login takes
    if wrong:
        error = future.exception()
        assert type(error) is contextree.AuthenticationError
        seen += [str(error), repr(error), repr(vars(error)), error.output, error.command,
                 "".join(traceback.format_exception(error))]
    else:
        dan = future.result()
        seen += [repr(dan), repr(dan.facts), repr(dan.call(os.environ.copy)), everything_that_can_be_read(),
                 seen_by_nobody()]
        dan.shutdown()
    seen += [caplog.text, repr([vars(record) for record in caplog.records]), repr(password), "%s" % password]
    for text in seen:
        text = text if isinstance(text, bytes) else text.encode()
        for form in (own.encode(), repr(own).encode(), own.split()[-1].encode(), own.encode().hex().encode()):
            assert form not in text


# ------------------------------------------------------------------------------------------------------------- the end

def test_r_09_a_child_that_we_may_not_signal_ends_by_the_end_of_its_link(become, accounts):
    bob = become("bob")
    with pytest.raises(PermissionError):
        bob.call(os.kill, bob.sudo(name="probe").pid, 0)
    for end in ("shutdown", "kill"):
        root = bob.sudo(name=end)
        root.call(there.ignore_everything)
        busy = root.submit(time.sleep, 600)
        process = processes.identity(root.pid)
        getattr(root, end)()
        assert isinstance(busy.exception(10), contextree.ContextreeError)
        until(lambda process=process: not processes.alive(process), "the child to end")
        assert bob.call(there.who) == accounts.bob


def test_r_09_a_child_of_another_account_that_has_stopped(become, accounts):
    """Nothing that bob may do reaches it, so the end of its context is told, in bounded time, and it is left behind."""
    bob = become("bob")
    root = bob.sudo(accounts.dan)
    process = processes.identity(root.pid)
    busy = root.submit(time.sleep, 600)
    os.kill(root.pid, signal.SIGSTOP)
    root.kill()
    assert isinstance(busy.exception(10), contextree.ContextDied)
    assert root.state == "died"
    with contextlib.suppress(ProcessLookupError):  # the kernel ends a group that has stopped and lost its parents
        os.kill(process[0], signal.SIGCONT)
    until(lambda: not processes.alive(process), "it to see the end of its link")
    assert bob.call(there.who) == accounts.bob


def test_r_09_a_stub_that_never_says_hello_and_cannot_be_signalled(become, accounts):
    bob = become("bob")
    stub = ["sh", "-c", "trap '' HUP TERM INT; while read line; do :; done"]
    with pytest.raises(contextree.ConnectTimeout):
        bob.grow(contextree.Plan(["sudo", "-n", "-u", accounts.dan, *stub], "stub", "sudo", phases={"connect": 0.5}))
    uid = {pwd.getpwnam(accounts.dan).pw_uid}
    until(lambda: not processes.owned_by(uid), "the stub to read the end of its link")


@pytest.mark.parametrize("short, method", [("ann", "sudo"), ("bob", "sudo"), ("ann", "doas")])
def test_r_10_a_megabyte_on_the_terminal_at_the_end(become, accounts, caplog, short, method):
    caplog.set_level(logging.CRITICAL)  # a megabyte in the log is not what is tested
    options = {"tty": True} if method == "sudo" else {}
    dan = getattr(become(short), method)(accounts.dan, password=accounts.password, **options)
    process = processes.identity(dan.pid)
    text = b"".join(b"%079d\n" % number for number in range(13000))
    with pytest.raises(contextree.ContextDied):
        dan.call(there.write_and_leave, "/dev/tty", text)
    until(lambda: not processes.alive(process) and dan.state == "died", "its end")
