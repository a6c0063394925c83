"""docker, podman, buildah and kubectl beyond what every way has: options, Pythons, how it ends, and what is said of
errors."""

import contextlib
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import contextree
from tests.lab import processes, pythons, rootfs
from tests.lab.poll import until
from tests.methods import far
from tests.methods.boxes import empty, open_in, refused

# -- options

def test_user_workdir_variables_and_privileges(router, lab):
    secret = "canary-of-a-variable"
    with open_in(router, lab, user=rootfs.USER, workdir="/tmp", env={"COLOUR": secret, "EMPTY": ""}) as context:
        uid, folder, safe, first = context.call(far.look)
        assert (uid, folder, safe) == (1000, "/tmp", None)
        assert first != ""
        assert context.call(far.variable, "COLOUR") == secret
        assert context.call(far.variable, "EMPTY") == ""
        lines = command_lines()
        assert b"\0COLOUR\0" in lines
        assert secret.encode() not in lines


def command_lines():
    """Those of all processes."""
    found = []
    for pid in processes.every():
        with contextlib.suppress(OSError):
            found.append(Path("/proc/%d/cmdline" % pid).read_bytes())
    return b"\n".join(found)


def test_privileges(router, lab):
    with open_in(router, lab) as context:
        few = context.call(far.capabilities)
    with open("/proc/sys/kernel/cap_last_cap") as file:
        every = (2 << int(file.read())) - 1
    if lab.kind == "docker" and far.capabilities() != every:  # podman gives those that there are
        assert "unable to apply caps" in str(refused(router, lab, privileged=True))
        return
    with open_in(router, lab, privileged=True) as context:
        assert context.call(far.capabilities) > few


def test_what_lies_in_the_directory_is_not_imported(router, lab, tmp_path, box):
    for name in ("zlib", "linecache", "types"):
        (tmp_path / (name + ".py")).write_text("raise SystemExit('it was imported')\n")
    name = box(options=["--volume=%s:/work:ro" % tmp_path])
    newest = rootfs.inside()[max(rootfs.inside(), key=lambda minor: int(minor[2:]))]
    with open_in(router, lab, name, workdir="/work", python=[os.path.realpath(newest.argv[0])]) as context:
        assert context.call(os.getcwd) == "/work"


@pytest.mark.parametrize("minor", [minor for minor in pythons.MINORS if minor != "2.7"])
def test_every_python(router, docker_lab, pythons, box_of_pythons, minor):
    if minor not in pythons:
        pytest.skip("Python %s is not on this machine" % minor)
    python = pythons[minor]
    words = python.argv if python.origin == "chroot" else [os.path.realpath(python.argv[0])]
    with open_in(router, docker_lab, box_of_pythons, python=list(words)) as context:
        version = context.call(far.version)
        assert version == tuple(int(part) for part in minor.split("."))
        with context.local() as below:
            assert below.call(abs, -2) == 2


@pytest.fixture(scope="module")
def box_of_pythons(docker_lab):
    """A container in which the chroot with the newest Pythons is, too."""
    options = ["--volume=%s:%s:ro" % (path, path) for path in [pythons.chroot_directory()] if path.exists()]
    name = docker_lab.run_container(options=options)
    yield name
    docker_lab.remove(name)


def test_python_2_is_told_politely(router, docker_lab, pythons):
    if "2.7" not in pythons:
        pytest.skip("Python 2.7 is not on this machine")
    with pytest.raises(contextree.VersionError, match=r"this is 2\.7"):
        open_in(router, docker_lab, python=[os.path.realpath(pythons["2.7"].argv[0])])


# -- how it ends

@pytest.fixture(params=["docker", "podman", "buildah", "kubectl"])
def ways(request):
    """Those ways in turn."""
    return request.getfixturevalue("way_" + request.param)


def test_its_tool_is_killed(router, ways):
    before = ways.lab.processes() if ways.separate else []  # what hangs in a container outlives its tool
    context = ways.open(router)
    path = "/tmp/contextree-%s" % os.urandom(8).hex()
    busy = context.submit(far.begin, path)
    until(lambda: context.with_options(threads=1).call(os.path.exists, path), "the call to begin")
    inside = [who for who in inside_of(ways, context) if who not in before]
    assert inside
    client, = [child for child in router.engine.reaper if ways.method in child.command or child.command == "env"]
    os.kill(client.pid, signal.SIGKILL)
    assert isinstance(busy.exception(20), contextree.ContextDied)
    until(lambda: not any(processes.alive(who) for who in inside), "the interpreter to end")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def test_the_interpreter_is_killed(router, ways):
    context = ways.open(router)
    inside = inside_of(ways, context)
    for who in inside:
        with contextlib.suppress(ProcessLookupError):
            os.kill(who[0], signal.SIGKILL)
    context.wait(20)
    until(lambda: not any(processes.alive(who) for who in inside), "the interpreter to end")
    if hasattr(ways, "lab") and ways.separate:
        empty(ways.lab)


def inside_of(way, context):
    """The identities of the interpreter, and of what it has started, as this machine numbers them."""
    if way.separate:
        return way.lab.processes()
    return [processes.identity(context.pid), *processes.descendants(context.pid)]


def test_the_container_is_stopped(router, lab, box):
    name = box()
    context = open_in(router, lab, name)
    busy = context.submit(time.sleep, 600)
    lab.run("kill", name)
    error = busy.exception(20)
    assert isinstance(error, contextree.ContextDied)


def test_nothing_stays_in_it(router, lab):
    context = open_in(router, lab)
    with context.local() as below, context.fork() as forked:
        assert below.call(abs, -1) == forked.call(abs, -1) == 1
        assert len(lab.processes()) >= 3
    context.submit(time.sleep, 600)
    context.kill()
    empty(lab)


def test_eight_at_once(router, lab):
    with ThreadPoolExecutor(8) as pool:
        contexts = list(pool.map(lambda number: open_in(router, lab, name="box%d" % number), range(8)))
    assert [context.name for context in contexts] == ["box%d" % number for number in range(8)]
    assert len(set(contextree.gather(contexts, os.getpid).values())) == 8


def test_on_a_host_behind_ssh(router, sshd, docker_lab):
    """As root, since the engine's socket is root's; eight at once, all through the one host."""
    with router.ssh("key", ssh_config=sshd.ssh_config, user="root") as web:
        with ThreadPoolExecutor(8) as pool:
            boxes = list(pool.map(lambda number: open_in(router, docker_lab, via=web, name="box%d" % number), range(8)))
        assert boxes[3].name == "ssh.key.box3"
        assert set(contextree.gather(boxes, abs, -3).values()) == {3}
        with pytest.raises(contextree.ConnectError, match="there is no container no-such-target"):
            open_in(web, docker_lab, "no-such-target")
    empty(docker_lab)


def test_behind_another_account_that_has_a_password(router, become, accounts, docker_lab):
    tool = [shutil.which("docker"), *docker_lab.program[1:]]
    ann = become("ann")
    with pytest.raises(contextree.AuthenticationError, match="may not use the socket"):
        open_in(ann, docker_lab, docker=tool)
    with ann.sudo("root", password=accounts.password) as root:
        with ThreadPoolExecutor(8) as pool:
            boxes = list(pool.map(lambda number: open_in(root, docker_lab, docker=tool, name="box%d" % number),
                                  range(8)))
        assert boxes[7].name == "ann.sudo.root.box7"
        assert set(contextree.gather(boxes, abs, -3).values()) == {3}
    empty(docker_lab)


def test_on_a_host_where_the_engine_may_not_be_used(router, sshd, docker_lab):
    with router.ssh("key", ssh_config=sshd.ssh_config) as web:
        with pytest.raises(contextree.AuthenticationError, match="may not use the socket") as caught:
            open_in(router, docker_lab, via=web)
        assert caught.value.phase == "login"


# -- what is said of errors

def test_it_does_not_run(router, lab, box):
    name = box()
    lab.run("stop", "-t", "0", name)
    error = refused(router, lab, name)
    assert "not running" in str(error)
    assert error.phase == "connect"


def test_it_is_paused(router, lab, box):
    name = box()
    lab.run("pause", name)
    error = refused(router, lab, name)
    lab.run("unpause", name)
    assert "paused" in str(error)
    assert error.phase == "connect"


def test_the_engine_does_not_answer(router, docker_lab, tmp_path):
    error = refused(router, docker_lab, docker="docker", host="unix://%s/none.sock" % tmp_path)
    assert "no docker engine answers at unix://%s/none.sock" % tmp_path in str(error)
    assert error.phase == "connect"
    error = refused(router, docker_lab, docker="docker", context="no-such-context")
    assert "docker knows no context no-such-context" in str(error)


def test_the_service_does_not_answer(router, podman_lab, tmp_path):
    error = refused(router, podman_lab, podman=podman_lab.program[:4], url="unix://%s/none.sock" % tmp_path)
    assert "no podman service answers there" in str(error)
    assert error.phase == "connect"


def test_no_directory(router, lab):
    error = refused(router, lab, workdir="/no-such-directory")
    assert "there is no directory /no-such-directory in the container" in str(error)


def test_no_python_in_it(router, lab, box):
    name = box(image="bare", mounts=False)
    error = refused(router, lab, name)
    assert "no Python 3.6 or newer" in str(error)
    assert "python3.16 to python3.6" in str(error)
    assert "python=" in str(error)
    assert error.phase == "boot"


def test_no_shell_in_it(router, lab, box):
    name = box(image="none")
    error = refused(router, lab, name)
    assert "no sh to look for a Python with (for python3, python3.16 to python3.6" in str(error)
    assert "python=" in str(error)
    assert error.phase == "boot"
    with open_in(router, lab, name, python=rootfs.system_python()) as context:
        assert context.call(abs, -1) == 1


def test_not_a_program(router, lab):
    error = refused(router, lab, python="/etc/passwd")
    assert "/etc/passwd" in str(error)
    assert "permission denied" in str(error)


def test_not_enough_memory(router, lab, box):
    name = box(options=["--memory=60m"])
    context = open_in(router, lab, name)
    error = context.submit(far.fill).exception(30)
    assert isinstance(error, contextree.ContextDied)
    assert "status 137 (it was killed there, perhaps for want of memory)" in str(error)
    hungry = [rootfs.system_python(), "-c", "x = bytearray(300 << 20)"]
    error = refused(router, lab, name, python=hungry)
    assert "status 137" in str(error)
    assert "not enough memory" in str(error)
