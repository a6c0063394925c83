"""systemd-nspawn and machinectl: what is theirs alone. What they share with all methods is in test_every_way.py."""

import os
import re
import shlex
import signal
import subprocess
import sys

import pytest

import contextree
from contextree.connect import machinectl, nspawn
from contextree.connect.plan import LAUNCHER
from contextree.parent.spawn import launcher
from tests.lab import processes
from tests.lab.poll import until
from tests.methods import indoors, there


@pytest.fixture(scope="module")
def machine(machines_box):
    """(name, options) of a machine that runs systemd."""
    return machines_box.common, {"systemd_run": [*machines_box.inside, "systemd-run"]}


@pytest.fixture(scope="module")
def tree(nspawn_box):
    """A tree that one container at a time may have, and the options for it."""
    return nspawn_box.common, {"register": False, "extra_args": nspawn_box.extra_args}


# -- nspawn

def test_a_container_of_its_own(router, tree, tmp_path):
    root, options = tree
    (tmp_path / "text").write_text("here")
    with router.nspawn(root, machine="ctxt-own", bind=["%s:/mnt" % tmp_path], bind_ro=[str(tmp_path)],
                       **options) as box:
        assert box.call(indoors.hostname) == "ctxt-own"
        assert box.pid == 2  # 1 is an init that reaps
        assert box.call(indoors.read, "/mnt/text") == box.call(indoors.read, str(tmp_path / "text")) == "here"
        with pytest.raises(OSError, match="Read-only"):
            box.call(os.mkdir, str(tmp_path / "new"))
    with router.nspawn(root, user="ann", **options) as box:
        assert box.call(indoors.who)[:4] == (1234, 1234, [1234, 4321], "/home/ann")


def test_only_one_at_a_time(router, tree):
    root, options = tree
    with router.nspawn(root, **options), pytest.raises(contextree.ConnectError, match="another container") as caught:
        router.nspawn(root, machine="ctxt-second", **options)
    assert caught.value.phase == "connect"


def test_rm_22_as_pid_1(router, tree):
    """It reaps its own children, ten of them, and leaves alone what was handed on to it."""
    root, options = tree
    with router.nspawn(root, init=False, **options) as box:
        assert box.pid == 1
        stray = box.call(indoors.orphan)
        grown = [box.local() if number % 5 == 0 else box.fork() for number in range(10)]
        assert [child.call(abs, -number) for number, child in enumerate(grown)] == list(range(10))
        for child in grown[:5]:
            child.shutdown()
        for child in grown[5:]:
            with pytest.raises(contextree.ContextDied):
                child.call(there.leave, 3)
        until(lambda: all(child.state == "died" for child in grown), "all to be reaped")
        left = dict(box.call(indoors.children))
        assert left.pop(stray) == "Z"
        assert "Z" not in left.values()  # the template is alive


@pytest.mark.parametrize("init", [True, False])
def test_rm_28_the_container_is_killed(router, tree, init):
    root, options = tree
    context = router.nspawn(root, init=init, **options)
    below = context.local()
    waiting = [one.submit(signal.pause) for one in (context, below)]
    spawner = next(pid for pid, _ in processes.descendants(os.getpid())
                   if processes.command_line(pid).startswith("systemd-nspawn"))
    leaders = [pid for pid, _ in processes.descendants(spawner) if processes.stat(pid)[0] == spawner]
    os.kill(leaders[0], signal.SIGKILL)
    for future in waiting:
        assert type(future.exception(10)) is contextree.ContextDied
    assert "exited with status 1" in str(waiting[0].exception())


def test_no_python_there(router, nspawn_box, tree):
    with pytest.raises(contextree.ConnectError, match="looked for python3"):
        router.nspawn(nspawn_box.tree(""), **tree[1])


def test_nspawn_words():
    def words(*args, **options):
        return [word for word in nspawn.plan(*args, **options).argv if "\0python" not in word]

    safe = "--setenv=PYTHONSAFEPATH=contextree"
    start = ["systemd-nspawn", "--quiet", "--pipe"]
    assert words("/srv/app") == [*start, "--as-pid2", "--directory=/srv/app", safe, "--"]
    assert words("/srv/app.raw", init=False) == [*start, "--image=/srv/app.raw", safe, "--"]
    assert words("/srv/app.img", image=True, register=False)[3:6] == [
        "--as-pid2", "--register=no", "--keep-unit"]
    assert words("tree", machine="m", extra_args=["--ephemeral"])[4:] == [
        "--directory=tree", "--machine=m", safe, "--ephemeral", "--"]
    assert nspawn.plan("/srv/app/").name == "nspawn.app"
    lent = [word.replace("\0token", "T") for word in nspawn.plan("/srv/app", lend_python="/opt/py:3").argv]
    assert "--bind-ro=/opt/py\\:3:/run/contextree-T" in lent
    for bad in ({"directory": ""}, {"directory": 7}, {"directory": "/x", "bind": "/y"},
                {"directory": "/x", "machine": "-m"}):
        with pytest.raises(contextree.UsageError):
            nspawn.plan(**bad)


# -- machinectl

def test_in_a_machine(router, machine):
    name, options = machine
    with router.machinectl(name, **options) as box:
        assert box.call(indoors.who)[:2] == (0, 0)
        assert box.call(indoors.read, "/proc/1/comm") == "systemd\n"
        assert re.search(r"/contextree-\w{16}\.service", box.call(indoors.read, "/proc/self/cgroup"))
        assert "PYTHONSAFEPATH" not in box.call(indoors.environ)


def test_as_a_user(router, machine):
    name, options = machine
    for target, user in ((name, "nobody"), ("nobody@" + name, None), (name, 65534)):
        with router.machinectl(target, user=user, **options) as box:
            assert box.call(indoors.who)[0] == 65534
    with router.machinectl(name, user="nobody", group="daemon", **options) as box:
        assert box.call(indoors.who)[:2] == (65534, 1)


def test_a_login(router, machine):
    """A session as login opens it: limits and environment of PAM, at home."""
    name, options = machine
    with router.machinectl(name, login=True, **options) as box:
        uid, _gid, _groups, home, folder = box.call(indoors.who)
        assert (uid, home) == (0, folder)
        assert box.call(indoors.environ)["LOGNAME"] == "root"
    with router.machinectl("nobody@" + name, login=True, **options) as box:  # who has no home
        assert box.call(indoors.who)[0] == 65534


def test_the_host_itself(router, machine):
    """``.host`` is where the context is that starts it: here in the machine, which is a host with systemd."""
    name, options = machine
    with router.machinectl(name, **options) as host:
        with host.machinectl(user="nobody") as box, box.local() as below:
            assert box.name == host.name + ".machinectl.nobody"
            assert below.call(indoors.who)[0] == 65534
        with router.machinectl(".host", via=host) as box:
            assert box.name == host.name + ".machinectl.root"


@pytest.fixture
def host(router, machine):
    """A context on a host with systemd, as root."""
    with router.machinectl(machine[0], name="host", **machine[1]) as host:
        yield host


@pytest.mark.parametrize("user", [None, "nobody"])
def test_by_machinectl_shell(host, user):
    """Its terminal would make something of these bytes, and end at three ^]; they do not pass it."""
    with host.machinectl(user=user, by_shell=True) as box:
        assert box.name == "host.machinectl." + (user or "root")
        assert box.call(indoors.who)[0] == (65534 if user else 0)
        data = b"\x1d" * 100_000 + bytes(range(256)) * 400
        assert box.call(bytes, data) == data
        assert box.call(os.isatty, 2) is False
        assert "container-shell" in box.call(indoors.read, "/proc/self/cgroup")
        with box.fork() as forked:
            assert forked.call(bytes, data) == data
        assert host.call(indoors.running, "-ISc") == 1
    until(lambda: not host.call(indoors.running, "-ISc"), "the launcher to end")


def test_machinectl_shell_errors(host):
    def fails(text, phase, kind=contextree.ConnectError, **options):
        with pytest.raises(kind, match=text) as caught:
            host.machinectl(by_shell=True, **options)
        assert caught.value.phase == phase

    fails("no such user", "login", user="nobody-there", kind=contextree.AuthenticationError)
    fails("before /no-such-python ran", "boot", python="/no-such-python")
    fails("cannot run no-such-program", "start", machinectl="no-such-program")
    refused = ["sh", "-c", "echo Failed to get shell PTY: Access denied >&2; exit 1"]
    fails("Access denied", "connect", machinectl=refused)
    fails("phase connect", "connect", python="sh -c 'exec sleep 600'", connect_timeout=1)
    until(lambda: not host.call(indoors.running, "sleep 600"), "what hung to end with its terminal")
    for options in ({"machine": "m"}, {"group": "daemon"}):
        with pytest.raises(contextree.UsageError, match="by_shell=True is for"):
            machinectl.plan(by_shell=True, **options)


def test_machinectl_shell_is_killed(host):
    context = host.machinectl(by_shell=True)
    busy = context.submit(signal.pause)
    with pytest.raises(contextree.ContextDied):
        context.with_options(threads=1).call(there.kill_self)
    assert type(busy.exception(10)) is contextree.ContextDied


def test_descriptors_are_handed_to_nobody_else(tmp_path):
    """Who connects as another user is sent away; who is meant comes later."""
    take = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect('\\0' + sys.argv[1]); s.recvmsg(1, 64); "
    name = "contextree-test-%d" % os.getpid()
    stranger = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c",
                take + "sys.exit(not s.recvmsg(1, 64)[1])", name]
    friend = ["/usr/bin/python3", "-c", machinectl._TAKE, name, "-c", "print(input())"]
    command = ["sh", "-c", "%s && echo taken; exec %s" % (shlex.join(stranger), shlex.join(friend))]
    done = subprocess.run([sys.executable, "-ISc", launcher(LAUNCHER + "handed"), "name=" + name, "user=root", "--",
                           *command], input="sesame\n", capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "sesame\n"
    assert "taken" not in done.stderr


def test_words_that_systemd_reads(router, machine, tmp_path):
    """$ names a variable in a unit's command line, and % a specifier; here they are what they are."""
    name, options = machine
    script = 'echo "$0 $1 $HOME ${HOME} %n $$X" >&2; shift; exec "$@"'
    with router.machinectl(name, python=["sh", "-c", script, "$A", "${B}%t $$", "env", "C=$D %u $$", "python3"],
                           **options) as box:
        assert box.call(os.getenv, "C") == "$D %u $$"


def test_machinectl_errors(router, machine):
    name, options = machine

    def fails(text, phase, target=name, kind=contextree.ConnectError, **more):
        with pytest.raises(kind, match=text) as caught:
            router.machinectl(target, **{**options, **more})
        assert caught.value.phase == phase

    fails("no such user", "login", user="nobody-there", kind=contextree.AuthenticationError)
    fails("no such group", "login", group="nobody-there", kind=contextree.AuthenticationError)
    fails("does not take its options", "start", extra_args=["--no-such-option"])
    fails("systemd does not run here", "connect", ".host")
    fails("no such machine", "connect", "no-such-target")
    fails("working directory", "connect", extra_args=["--working-directory=/no/such"])


def test_what_hangs_is_ended(host):
    """systemd-run would leave its service behind."""
    with pytest.raises(contextree.ConnectTimeout):
        host.machinectl(python="sh -c 'exec sleep 601'", connect_timeout=1)
    until(lambda: not host.call(indoors.running, "sleep 601"), "the service to end")
    context = host.machinectl()
    context.submit(indoors.stop)
    context.shutdown(timeout=0.1)
    until(lambda: not host.call(indoors.running, "contextree:%d" % context.id), "the interpreter to end")


def test_rm_28_the_machine_is_killed(router, machines_box):
    name = machines_box.boot()
    context = router.machinectl(name, systemd_run=[*machines_box.inside, "systemd-run"])
    waiting = context.submit(signal.pause)
    os.kill(machines_box.init(name), signal.SIGKILL)
    assert type(waiting.exception(10)) is contextree.ContextDied
    until(lambda: context.state == "died", "it to be gone", 5)


def test_setns_into_a_machine(router, machines_box, machine):
    with router.setns(machine[0], kind="machinectl", program=[*machines_box.inside, "machinectl"]) as box:
        assert box.call(indoors.read, "/proc/1/comm") == "systemd\n"
        assert box.facts["method"] == "setns"


def test_machinectl_words():
    def words(*args, **options):
        return [word.replace("\0token", "T") for word in machinectl.plan(*args, **options).argv if "\0p" not in word]

    safe = "--setenv=PYTHONSAFEPATH=contextree"
    start = ["systemd-run", "--quiet", "--no-ask-password", "--pipe", "--wait", "--collect",
             "--unit=contextree-T.service"]
    assert words() == [*start, safe, "--"]
    assert words("ann@.host") == [*start, "--uid=ann", safe, "--"]
    assert words("m", user="ann", group=5) == [*start, "--machine=m", "--uid=ann", "--gid=5", safe, "--"]
    assert words("m", login=True, extra_args=["--slice=web"]) == [
        *start, "--machine=m", "--uid=root", "--property=PAMName=login", "--property=WorkingDirectory=-~", safe,
        "--slice=web", "--"]
    assert machinectl.plan("m").name == "machinectl.m"
    after = [word.replace("\0token", "T") for word in machinectl.plan("m", systemd_run="/opt/systemd-run").after[0]]
    assert after[4:] == ["/opt/systemctl", "--no-ask-password", "--machine=m", "kill", "--signal=SIGKILL",
                         "contextree-T.service"]
    assert machinectl.plan("m", systemd_run="run").after == ()
    assert machinectl.plan().name == "machinectl.root"
    for bad in ({"machine": ""}, {"machine": "-m"}, {"machine": "a@m", "user": "b"}, {"machine": "m", "user": "-x"}):
        with pytest.raises(contextree.UsageError):
            machinectl.plan(**bad)


@pytest.mark.parametrize(("module", "status", "output", "error", "phase"), [
    (machinectl, 1, "Failed to connect to bus: Host is down", "ConnectError", "connect"),
    (machinectl, 1, "Failed to start transient service unit: Access denied", "ConnectError", "connect"),
    (machinectl, 1, "Failed to start transient service unit: Interactive authentication required.", "ConnectError",
     "connect"),
    (machinectl, 224, "", "AuthenticationError", "login"),
    (machinectl, 203, "", "ConnectError", "boot"),
    (nspawn, 1, "No image for machine 'x'.", "ConnectError", "connect"),
    (nspawn, 1, "Need to be root.", "ConnectError", "connect"),
    (nspawn, 1, "Failed to open system bus: No such file or directory", "ConnectError", "connect"),
    (nspawn, 1, "Directory /x doesn't look like it has an OS tree. Refusing.", "ConnectError", "connect"),
    (nspawn, 1, "systemd-nspawn: unrecognized option '--x'", "ConnectError", "start"),
    (nspawn, 1, "execv(/py) failed: No such file or directory", "ConnectError", "boot"),
])
def test_classify(module, status, output, error, phase):
    found, message, where = module.classify("m", status, output)
    assert (found, where) == (error, phase)
    assert message
