"""setns, its launcher, chroot and jail: what is theirs alone."""

import contextlib
import os
import platform
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import contextree
from contextree.connect import chroot, jail, setns
from contextree.connect.plan import LAUNCHER
from contextree.parent import enter
from contextree.parent.spawn import launcher
from tests.lab import processes
from tests.lab.poll import until
from tests.methods import indoors, there

TOOLS = ["python", "nsenter"]


@pytest.fixture(scope="module")
def mapped(handmade_box):
    """The init of a container whose root is 100000 outside."""
    return handmade_box.container(users=True)


# -- setns

@pytest.mark.parametrize("tool", TOOLS)
def test_it_is_there(router, setns_target, tool):
    """All namespaces, the root directory, and the environment of the process that was entered."""
    with router.setns(setns_target, tool=tool) as box:
        assert box.call(platform.node).startswith("ctxt-")
        assert box.call(os.path.exists, "/etc/os-release")
        assert box.call(os.readlink, "/proc/1/exe") == "/bin/busybox"
        assert box.call(indoors.who)[4] == "/"
        for name in ("mnt", "pid", "net", "uts", "ipc", "cgroup"):
            assert box.call(os.readlink, "/proc/self/ns/" + name) == os.readlink(
                "/proc/%d/ns/%s" % (setns_target, name))
        names = box.call(indoors.environ)
        assert "CONTEXTREE_TEST_RUN" not in names
        assert "PYTHONSAFEPATH" not in names
        assert names["HOME"] == "/root"


@pytest.mark.parametrize("tool", TOOLS)
def test_some_namespaces(router, setns_target, tool):
    with router.setns(setns_target, namespaces=["net", "uts"], tool=tool, python=sys.executable) as box:
        assert box.call(os.readlink, "/proc/self/ns/mnt") == os.readlink("/proc/self/ns/mnt")
        assert box.call(os.readlink, "/proc/self/ns/net") == os.readlink("/proc/%d/ns/net" % setns_target)
        assert processes.alive(processes.identity(box.pid))  # a pid of ours, then


@pytest.mark.parametrize("tool", TOOLS)
def test_a_user_namespace(router, mapped, tool):
    """Its root, who is nobody outside."""
    with router.setns(mapped, tool=tool) as box:
        assert box.call(indoors.who)[:3] == (0, 0, [])
        assert os.readlink("/proc/%d/ns/user" % mapped) == box.call(os.readlink, "/proc/self/ns/user")
        outside = [pid for pid, _ in processes.descendants(os.getpid()) if "contextree:" in processes.command_line(pid)]
        status = Path("/proc/%d/status" % outside[-1]).read_text()
        assert "\nUid:\t100000\t100000\t100000\t100000\n" in status
    with router.setns(mapped, tool=tool, user="ann") as box:
        assert box.call(indoors.who)[:2] == (1234, 1234)


@pytest.mark.parametrize("tool", TOOLS)
def test_without_root(router, tool):
    """Whoever made a user namespace may enter it, and what belongs to it: as rootless podman's containers are."""
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    words = [*nobody, "unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child",
             "--mount-proc", "sleep", "600"]
    with subprocess.Popen(words) as outer, contextlib.ExitStack() as end:
        end.callback(outer.kill)
        inner = until(lambda: [who[0] for who in processes.descendants(outer.pid)
                               if processes.command_line(who[0]) == "sleep 600"], "the namespaces")[0]
        with router.local(python=[*nobody, "/usr/bin/python3"]) as starter, starter.setns(inner, tool=tool) as box:
            assert starter.call(os.getuid) == 65534
            assert box.call(os.getuid) == 0
            assert box.call(os.readlink, "/proc/self/ns/pid") == os.readlink("/proc/%d/ns/pid" % inner)


@pytest.mark.parametrize("minor", ["3.6", "3.13"])
def test_launched_by_any_python(router, setns_target, pythons, minor):
    """By ctypes before 3.12, by os.setns since; where it runs need be no such Python."""
    if minor not in pythons:
        pytest.skip("no Python %s here" % minor)
    with router.local(python=pythons[minor].argv) as between, between.setns(setns_target, user="ann") as box:
        assert tuple(between.facts["version"])[:2] != tuple(box.facts["version"])[:2]
        assert box.call(indoors.who)[:4] == (1234, 1234, [1234, 4321], "/home/ann")


def test_from_inside(router, setns_target):
    """A container has what it takes itself, too: the launcher comes with the context."""
    with router.setns(setns_target) as box, box.chroot("/") as below, box.setns(1) as beside:
        assert below.call(os.getppid) == box.pid
        assert beside.call(platform.node) == box.call(platform.node)


@pytest.mark.parametrize("tool", TOOLS)
def test_rm_28_the_end_of_the_pid_namespace(router, handmade_box, tool):
    target = handmade_box.container()
    context = router.setns(target, tool=tool)
    below = context.local()
    waiting = [one.submit(signal.pause) for one in (context, below)]
    os.kill(target, signal.SIGKILL)
    for future in waiting:
        assert type(future.exception(10)) is contextree.ContextDied
    assert "killed by SIGKILL" in str(waiting[0].exception())
    with pytest.raises(contextree.ConnectError) as caught:
        router.setns(target, tool=tool)
    assert caught.value.phase == "connect"


def test_its_signal_is_told(router, setns_target):
    """The launcher waits in the outer pid namespace, and ends as its child did."""
    context = router.setns(setns_target)
    busy = context.submit(signal.pause)
    with pytest.raises(contextree.ContextDied):
        context.with_options(threads=1).call(there.kill_self)
    assert "killed by SIGKILL" in str(busy.exception(10))


def test_a_signal_to_the_launcher_is_passed_on(router, setns_target):
    context = router.setns(setns_target)
    busy = context.submit(indoors.leave_at_term, 7)
    outer = [who[0] for who in processes.descendants(os.getpid()) if "-ISc" in processes.command_line(who[0])]
    until(lambda: context.with_options(threads=1).call(indoors.waits_for_term), "the handler to be there")
    os.kill(outer[0], signal.SIGTERM)
    assert "exited with status 7" in str(busy.exception(10))


def test_refused(router, setns_target):
    """A user who is not root; and one who asks for what is not there."""
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3"]
    with router.local(python=words) as nobody, pytest.raises(contextree.ConnectError, match="may not enter") as caught:
        nobody.setns(setns_target)
    assert caught.value.phase == "connect"
    with pytest.raises(contextree.ConnectError, match="there is no process 4194303"):
        router.setns(4194303)
    with pytest.raises(contextree.ConnectError, match="cannot find the container: sh says: nobody knows it"):
        router.setns("app", kind="docker", program=["sh", "-c", "echo nobody knows it >&2; exit 1"])
    with pytest.raises(contextree.ConnectError, match="does not run, says sh"):
        router.setns("app", kind="podman", program=["sh", "-c", "echo false 0"])
    with pytest.raises(contextree.ConnectError, match="options") as caught:
        router.setns(setns_target, nsenter=["nsenter", "--no-such-option"])
    assert caught.value.phase == "start"


def test_no_python_there(router, handmade_box):
    target = handmade_box.container("")
    for tool in TOOLS:
        with pytest.raises(contextree.ConnectError, match="looked for python3") as caught:
            router.setns(target, tool=tool)
        assert caught.value.phase == "boot"
        with pytest.raises(contextree.ConnectError, match=r"/opt/python: No such file|/opt/python cannot be run"):
            router.setns(target, tool=tool, python="/opt/python")


def test_a_number_that_was_given_again(router, setns_target):
    """The tool names a process that was started after it was asked: whoever had the number before is gone."""
    script = "sleep 0.2; sleep 600 >/dev/null 2>&1 & echo true $!"
    with pytest.raises(contextree.ConnectError, match=r"process (\d+) is another one") as caught:
        router.setns("app", kind="docker", program=["sh", "-c", script])
    pid = int(re.search(r"process (\d+)", str(caught.value)).group(1))
    assert "sleep" in processes.command_line(pid)
    processes.end([processes.identity(pid)])


def test_a_process_that_ends_while_it_is_entered():
    """Its folder in /proc stays its own: what is opened below it later is nobody else's."""
    with subprocess.Popen(["sleep", "600"]) as process:
        folder = enter.open_process(process.pid)
        process.kill()
    try:
        with pytest.raises(OSError, match=r"No such process|No such file"):
            os.open("ns/mnt", os.O_RDONLY, dir_fd=folder)
    finally:
        os.close(folder)


def test_where_there_is_neither_setns_nor_ctypes(setns_target):
    """Then it is done by nsenter."""
    code = "import sys, os; sys.modules['ctypes'] = None; os.__dict__.pop('setns', None); "
    code += launcher(LAUNCHER + "enter")
    words = ["pid=%d" % setns_target, "env=target", "--", "/usr/bin/python3", "-c", "import os; print(os.uname()[1])"]
    done = subprocess.run([sys.executable, "-ISc", code, *words], stdout=subprocess.PIPE, text=True, timeout=30,
                          check=True)
    assert done.stdout.startswith("ctxt-")


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("kind", ["docker", "podman"])
def test_a_container_by_name(request, router, kind, tool):
    """It has the environment that the image gives, as by ``exec``."""
    lab = request.getfixturevalue(kind + "_lab")
    with router.setns(lab.container, kind=kind, program=lab.program, tool=tool) as box, getattr(router, kind)(
            lab.container, **{kind: lab.program}) as other:
        assert box.call(os.readlink, "/proc/self/ns/mnt") == other.call(os.readlink, "/proc/self/ns/mnt")
        assert box.call(indoors.environ)["PATH"] == other.call(indoors.environ)["PATH"]
        assert box.call(indoors.hostname) == other.call(indoors.hostname)
    with pytest.raises(contextree.ConnectError, match="no-such-container") as caught:
        router.setns("no-such-container", kind=kind, program=lab.program, tool=tool)
    assert caught.value.phase == "connect"


@pytest.mark.parametrize(("kind", "program", "words"), [
    ("docker", None, "docker inspect --type=container --format={{.State.Running}} {{.State.Pid}} -- app"),
    ("podman", "/opt/podman", "/opt/podman inspect --type=container --format={{.State.Running}} {{.State.Pid}} app"),
    ("lxc", None, "lxc-info -pH -n app"),
    ("lxd", ["sudo", "lxc"], "sudo lxc query /1.0/instances/app/state"),
    ("incus", None, "incus query /1.0/instances/app/state"),
    ("nspawn", None, "machinectl show --property=Leader -- app"),
    ("machinectl", None, "machinectl show --property=Leader -- app"),
])
def test_what_is_asked(kind, program, words):
    plan = setns.plan("app", kind=kind, program=program)
    assert " ".join(word[4:] for word in plan.argv if word.startswith("ask=")) == words
    assert plan.name == "setns.app"


def test_lxc_and_lxd_are_told_where():
    argv = setns.plan("app", kind="lxc", lxcpath="/srv/lxc").argv
    assert [word[4:] for word in argv if word.startswith("ask=")][1:3] == ["-P", "/srv/lxc"]
    assert "ask=/1.0/instances/app/state?project=web" in setns.plan("app", kind="lxd", project="web").argv


@pytest.mark.parametrize("options", [
    {"target": "app"}, {"target": 0}, {"target": True}, {"target": -1}, {"target": "-x", "kind": "lxc"},
    {"target": "app", "kind": "vm"}, {"target": 1, "namespaces": ["mount"]}, {"target": 1, "tool": "magic"},
    {"target": 1, "group": "ann"}, {"target": 1, "nsenter": []},
])
def test_usage(options):
    with pytest.raises(contextree.UsageError):
        setns.plan(**options)


# -- chroot

def test_a_root_directory_without_devices(router, handmade_box):
    """Nobody makes a file /dev/null there, and Python runs all the same, forks too."""
    tree = handmade_box.tree(devices=False)
    for user in (None, "ann"):
        with router.chroot(tree, user=user) as box, box.fork() as forked, box.local() as below:
            assert [one.call(indoors.read_stdin) for one in (box, forked, below)] == ["", "", ""]
            assert box.call(os.listdir, "/dev") == []


@pytest.mark.parametrize("options", [{"user": "ann", "group": "extra"}, {"userspec": "ann:extra"},
                                     {"userspec": "1234:4321"}])
def test_chroot_as_a_user(router, way_chroot, options):
    with way_chroot.open(router, **options) as box:
        assert box.call(indoors.who)[:4] == (1234, 4321, [4321], "/home/ann")


def test_chroot_refused(router, way_chroot):
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3"]
    with router.local(python=words) as nobody, pytest.raises(contextree.ConnectError, match="needs root") as caught:
        nobody.chroot("/")
    assert caught.value.phase == "connect"
    with pytest.raises(contextree.UsageError, match="in one"):
        way_chroot.open(router, user="ann", userspec="ann")


def test_chroot_without_a_python(router, handmade_box):
    with pytest.raises(contextree.ConnectError, match="looked for python3"):
        router.chroot(handmade_box.tree(""))


def test_chroot_by_busybox(router, handmade_box):
    """Its chroot has no options, and needs none."""
    tree = handmade_box.tree("3.6")
    with router.chroot(tree, user="ann", chroot=["busybox", "chroot"]) as box:
        assert tuple(box.facts["version"])[:2] == (3, 6)
        assert box.call(os.getuid) == 1234
    with pytest.raises(contextree.ConnectError, match="no such directory"):
        router.chroot("/no-such-target", chroot=["busybox", "chroot"])
    with pytest.raises(contextree.ConnectError, match="the tree has no '/no-such-python'"):
        router.chroot(tree, chroot=["busybox", "chroot"], python="/no-such-python")


# -- jail

def test_jail_words(router, way_jail):
    with way_jail.open(router, user="ann") as box:
        assert box.call(os.getuid) == 1234
    with way_jail.open(router, user=None, host_user="nobody") as box:
        assert box.call(os.getuid) == 65534

    def words(*args, **options):
        return [word for word in jail.plan(*args, **options).argv if "\0" not in word]

    assert words("web") == ["jexec", "-l", "web"]
    assert words(7, user="www") == ["jexec", "-l", "-U", "www", "7"]
    assert words("web", host_user=80, clear_env=False, jexec="/sbin/jexec") == ["/sbin/jexec", "-u", "80", "web"]
    for bad in ({"jail": ""}, {"jail": "-l"}, {"jail": 0}, {"jail": "x", "user": "a", "host_user": "b"}):
        with pytest.raises(contextree.UsageError):
            jail.plan(**bad)


@pytest.mark.parametrize(("module", "status", "output", "error", "phase"), [
    (jail, 1, 'jexec: jail "web" not found', "ConnectError", "connect"),
    (jail, 1, "jexec: jail_attach(7): Operation not permitted", "ConnectError", "connect"),
    (jail, 1, "jexec: ann: no such user", "AuthenticationError", "login"),
    (jail, 1, "jexec: execvp: sh: No such file or directory", "ConnectError", "boot"),
    (jail, 127, "env: python3: No such file or directory", "ConnectError", "boot"),
    (jail, 1, "usage: jexec [-l] ...", "ConnectError", "start"),
    (chroot, 125, "chroot: cannot change root directory to '/x': No such file or directory", "ConnectError", "connect"),
    (chroot, 125, "chroot: cannot change root directory to '/x': Operation not permitted", "ConnectError", "connect"),
    (chroot, 127, "chroot: failed to run command 'py': No such file or directory", "ConnectError", "boot"),
    (chroot, 125, "chroot: unrecognized option '--x'", "ConnectError", "start"),
    (setns, 121, "contextree: start: cannot run docker: No such file or directory", "ConnectError", "start"),
    (setns, 121, "contextree: connect: there is no process 7", "ConnectError", "connect"),
    (setns, 122, "contextree: login: there is no user ann there", "AuthenticationError", "login"),
    (setns, 127, "contextree: boot: sh cannot be run there: No such file or directory", "ConnectError", "boot"),
    (setns, 1, "nsenter: reassociate to namespace 'ns/net' failed: Operation not permitted", "ConnectError", "connect"),
    (setns, -9, "", "ConnectError", "boot"),
])
def test_classify(module, status, output, error, phase):
    found, message, where = module.classify("m", status, output)
    assert (found, where) == (error, phase)
    assert message
    assert chroot.plan("/srv/tree/").name == "chroot.tree"
