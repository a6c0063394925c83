"""S-18, S-24 to S-26, S-33, S-37: noise and false handshakes while a child starts; secrets; what a fork inherits."""

import glob
import os
import re
import signal
import sys
import tempfile

import pytest

import contextree
from contextree.connect.plan import PYTHON, Plan
from contextree.core.first_stage import ALIVE
from contextree.core.wire import values
from contextree.core.wire.frames import HELLO
from contextree.testing.scripted import HELLO as FIELDS
from tests.attacks import functions
from tests.lab.poll import until

CANARY = "cAnArY-5eCr3t"
MEGABYTE = 1 << 20


def noisy(before, name="noisy", after=""):
    """A Plan whose command first runs ``before``, as a login shell would its rc file, then becomes our interpreter."""
    text = "import os, sys\n%s\nos.execv(sys.argv[1], sys.argv[1:])" % before
    return Plan([sys.executable, "-I", "-S", "-c", text, PYTHON], name, "noisy", python=[sys.executable])


NOISE = {
    "a megabyte of banner": "os.write(1, b'Welcome! \\n' * (%d // 10))" % MEGABYTE,
    "a megabyte with no newline": "os.write(1, b'x' * %d)" % MEGABYTE,
    "rc-file output": "os.write(1, b'You have mail.\\nstty: not a tty\\n'); os.write(2, b'-bash: foo: not found\\n')",
    "terminal codes": "os.write(1, b'\\x1b]0;title\\x07\\x1b[2J\\x1b[?25l')",
    "binary": "os.write(1, bytes(range(256)) * 1000)",
    "the word that Python runs": "os.write(1, %r * 3)" % ALIVE,
    "a false handshake": "os.write(1, b'\\ncontextree:' + b'0' * 32 + b'\\n' + b'\\x1c\\0\\0\\0' + b'\\0' * 16)",
    "half a nonce": "os.write(1, b'\\ncontextree:' + b'a' * 16)",
    "many halves": "os.write(1, b'\\ncontextree:' * 10000)",
    "frames": "os.write(1, b'\\x11\\0\\0\\0' + b'\\0' * 16)",
}


@pytest.mark.parametrize("noise", NOISE)
def test_s_18_noise_before_the_handshake_is_only_noise(tree, noise):
    with tree.router.grow(noisy(NOISE[noise])) as child:
        assert child.call(functions.echo, 5) == 5
        assert child.pid and child.state == "up"
    if "mail" in NOISE[noise]:
        noise = "contextree.noisy.login"
        until(lambda: any("You have mail" in record.getMessage() for record in tree.log.of(noise)), "the noise")


def test_s_18_the_nonce_is_unguessable_and_new_each_time(tree):
    nonces = set()
    for _ in range(3):
        with tree.hostile() as child:
            nonces.add(child.nonce)
            assert re.fullmatch(rb"\ncontextree:[0-9a-f]{32}\n", child.nonce)
    assert len(nonces) == 3


def test_s_18_a_handshake_without_the_nonce_is_never_believed(tree):
    hello = values.encode({**FIELDS, "pid": 1})
    with tree.hostile(boot=False, phases={"connect": 1.0, "boot": 1.0}) as child:
        frame = child.frame(HELLO, hello)
        for false in (b"", child.nonce[:-1], child.nonce[1:], child.nonce[:20] + b"\n", child.nonce.upper(),
                      b"\ncontextree:" + b"0" * 32, bytes(reversed(child.nonce))):
            child.write(false + b"#" + frame)
        child.exit()
        with pytest.raises(contextree.ConnectError):
            child.result()


def test_s_18_the_nonce_byte_by_byte_and_noise_after_it(tree):
    with tree.hostile(boot=False) as child:
        data = b"noise\xff" * 100 + ALIVE + child.nonce + child.frame(HELLO, values.encode(FIELDS))
        for index in range(len(data)):
            child.write(data[index:index + 1])
        assert child.result().state == "up"
        child.write(b"Broadcast message from root: the system goes down\n")
        assert child.closed()
        assert "broke the protocol" in str(child.result().wait(5))


def test_s_18_a_child_that_never_says_hello_runs_into_its_deadline_with_an_excerpt(tree):
    with tree.hostile(boot=False, phases={"connect": 0.5, "login": 0.5, "boot": 0.5}) as child:
        child.write(b"This account is currently not available.\n")
        with pytest.raises(contextree.ConnectError) as caught:
            child.result()
        assert isinstance(caught.value, contextree.ConnectTimeout)
        assert child.closed()


def test_s_18_the_error_of_a_child_that_only_talks_has_its_last_words(tree):
    plan = noisy("os.write(1, b'Account locked, see %s\\n'); sys.exit(7)" % CANARY)
    with pytest.raises(contextree.ConnectError, match=CANARY):
        tree.router.grow(plan)


# -- S-24 to S-26


def everything_visible(pid):
    """What anybody on the machine can see of a process, and what its owner can."""
    found = {}
    for name in ("cmdline", "environ", "comm", "status"):
        with open("/proc/%d/%s" % (pid, name), "rb") as file:
            found[name] = file.read()
    return found


@pytest.mark.parametrize("how", ["local", "fork", "direct"])
def test_s_24_s_25_nothing_of_a_call_or_a_configuration_can_be_seen_from_outside(tree, how, tmp_path):
    child = {"local": lambda: tree.router.local(name=CANARY + "-name"),
             "fork": lambda: tree.router.fork(name=CANARY + "-name"),
             "direct": lambda: tree.router.fork(direct=True, name=CANARY + "-name")}[how]()
    try:
        assert child.call(functions.echo, contextree.Secret(CANARY)) == CANARY
        seen = everything_visible(child.pid)
        assert CANARY.encode() not in b"".join(seen.values())
        if how != "direct":
            word = seen["cmdline"].rstrip(b"\0").split(b"\0")[-1]
            assert word.startswith(b"contextree:") and len(word) < 30
            assert b"master" not in seen["cmdline"] and os.uname().nodename.encode() not in word
    finally:
        child.shutdown()


def test_s_24_secrets_are_masked_where_things_are_shown():
    secret = contextree.Secret(CANARY)
    assert CANARY not in repr(secret) and CANARY not in "%r" % [secret] and CANARY not in repr({"password": secret})


def test_s_26_no_file_is_written(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    child = tree.router.local(name="x", env=dict.fromkeys(("TMPDIR", "HOME", "XDG_CACHE_HOME"), str(tmp_path)))
    try:
        assert child.call(functions.echo, 1) == 1
        below = child.fork()
        assert below.call(functions.echo, 1) == 1
        assert os.listdir(tmp_path) == []
        for pid in (child.pid, below.pid):
            links = [os.readlink(path) for path in glob.glob("/proc/%d/fd/*" % pid)]
            assert not [link for link in links if "(deleted)" in link or link.startswith(str(tmp_path))]
    finally:
        child.shutdown()


# -- S-33, S-37


@pytest.mark.parametrize("direct", [False, True], ids=["template", "direct"])
def test_s_33_a_fork_shares_no_descriptor_with_its_relatives(tree, direct):
    def identities(pid):
        found = {}
        for path in glob.glob("/proc/%d/fd/*" % pid):
            try:
                target = os.readlink(path)
            except FileNotFoundError:  # the listing's own
                continue
            if int(os.path.basename(path)) > 2 and ("socket:" in target or "pipe:" in target or "anon_inode" in target):
                found[target] = path
        return found

    child = tree.router.fork(direct=direct)
    try:
        assert child.call(functions.echo, 1) == 1
        mine, its, others = identities(os.getpid()), identities(child.pid), identities(tree.sibling.pid)
        ours = {target for target in set(mine) & set(its) if not target.startswith("anon_inode")}
        owned = {os.readlink("/proc/self/fd/%d" % fd) for fd in tree_fds(tree)}
        assert not ours & owned, ours & owned
        assert not {target for target in set(others) & set(its) if not target.startswith("anon_inode")}
        child.call(functions.close_everything_that_polls)
        assert tree.sibling.call(functions.echo, 2) == 2
    finally:
        child.shutdown()


def tree_fds(tree):
    from contextree.core import process

    return list(process._own)


def test_s_37_a_handle_of_a_dead_child_signals_nobody(tree):
    child = tree.router.local(name="shortlived")
    pid, handle = child.pid, tree.engine.children[child.id].process
    os.kill(pid, signal.SIGKILL)
    child.wait(10)
    with pytest.raises(contextree.ProcessExited):
        handle.kill()
    with pytest.raises(contextree.ContextDied):
        child.call(functions.echo, 1)
    child.shutdown()
