"""A Python that is lent to a container which has none, and taken back whatever happens."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import contextree
import contextree.aio
from tests.lab import rootfs
from tests.lab.containers import CannotStart
from tests.methods import far
from tests.methods.boxes import as_before, empty, entries, open_in, refused

ROOT = Path(__file__).resolve().parents[2]


def test_lent_to_a_container_without_one(router, lab, box, lent):
    name = box(image="bare", mounts=False)
    before = entries(lab, name)
    with open_in(router, lab, name, lend_python=lent, user=rootfs.USER) as context:
        prefix = context.call(far.prefix)
        assert prefix.startswith("/.contextree-")
        assert context.call(far.version) == sys.version_info[:2]
        with context.local() as below:
            assert below.call(abs, -2) == 2
    assert entries(lab, name) == before  # shutdown has waited for it


def test_lent_to_a_container_with_nothing_in_it(router, lab, box, lent):
    """Not even a shell, or a C library."""
    name = box(image="none", mounts=False, command=["/sleep", "1000000"],
               options=["--volume=%s:/sleep:ro" % rootfs.busybox()])
    before = entries(lab, name)
    loader = next((lent / "loader").glob("ld-*")).name
    words = ["loader/" + loader, "--library-path", "{lent}/loader", "{lent}/bin/python"]
    with open_in(router, lab, name, lend_python=lent, python=words) as context:
        assert context.call(far.version) == sys.version_info[:2]
    assert entries(lab, name) == before


def test_one_that_does_not_run_there_is_taken_back(router, lab, box, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_bytes(Path(rootfs.system_python()).read_bytes())
    (tmp_path / "bin" / "python3").chmod(0o755)
    name = box(image="bare", mounts=False)
    before = entries(lab, name)
    error = refused(router, lab, name, lend_python=tmp_path)
    assert "its loader or a library" in str(error)
    assert error.phase == "boot"
    as_before(lab, name, before)


@pytest.mark.parametrize("state", ["paused", "not running"])
def test_nothing_is_lent_to_one_that_cannot_use_it(router, lab, box, lent, state):
    name = box(image="bare", mounts=False)
    before = entries(lab, name)
    lab.run(*(["pause"] if state == "paused" else ["stop", "-t", "0"]), name)
    error = refused(router, lab, name, lend_python=lent)
    assert state in str(error)
    assert error.phase == "connect"
    lab.run("unpause" if state == "paused" else "start", name)
    assert entries(lab, name) == before


def test_nothing_to_lend(router, lab, box, tmp_path):
    name = box(image="bare", mounts=False)
    error = refused(router, lab, name, lend_python=tmp_path / "no-such-folder")
    assert "no-such-folder" in str(error)
    assert "lend_python=" in str(error)
    assert error.phase == "start"
    error = refused(router, lab, "no-such-target", lend_python=tmp_path)
    assert "there is no container no-such-target" in str(error)


def test_lent_to_a_task(docker_lab, lent):
    name = docker_lab.run_container(image="bare", mounts=False)
    before = entries(docker_lab, name)

    async def main():
        async with contextree.aio.Router() as router:
            async with await router.docker(name, docker=docker_lab.program, lend_python=lent) as context:
                assert await context.call(abs, -1) == 1
            assert entries(docker_lab, name) == before
            task = asyncio.ensure_future(router.docker(name, docker=docker_lab.program, lend_python=lent))
            await asyncio.sleep(0.1)  # sleeps: it is to be cancelled somewhere in the middle
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    as_before(docker_lab, name, before)
    empty(docker_lab, name)
    docker_lab.remove(name)


def test_its_interpreter_is_killed(router, lab, box, lent):
    name = box(image="bare", mounts=False)
    before = entries(lab, name)
    context = open_in(router, lab, name, lend_python=lent)
    with pytest.raises(contextree.ContextDied):
        context.call(os.kill, context.pid, signal.SIGKILL)
    as_before(lab, name, before)


MASTER = """
import sys
import contextree
import contextree.aio
router = contextree.Router()
context = router.docker(sys.argv[1], docker=sys.argv[3:], lend_python=sys.argv[2])
print(context.call(abs, -1), flush=True)
input()
"""


def test_the_master_is_killed(docker_lab, lent):
    name = docker_lab.run_container(image="bare", mounts=False)
    before = entries(docker_lab, name)
    words = [sys.executable, "-c", MASTER, name, str(lent), *docker_lab.program]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          env=dict(os.environ, PYTHONPATH=str(ROOT))) as master:
        assert master.stdout.readline() == b"1\n"
        assert entries(docker_lab, name) != before
        master.kill()
    as_before(docker_lab, name, before)
    empty(docker_lab, name)
    docker_lab.remove(name)


def test_lent_to_a_working_container(router, podman_lab, lent):
    plain = rootfs.standalone(Path(podman_lab.directory, "python"))  # buildah's --volume takes no blanks or quotes
    try:
        name = podman_lab.working_container("bare", mounts=False)
    except CannotStart as error:
        pytest.skip(str(error))
    where = Path(subprocess.run([*podman_lab.buildah, "mount", name], capture_output=True, text=True,
                                check=True).stdout.strip())
    before = sorted(os.listdir(where))
    for isolation in ("chroot", "oci"):
        with router.buildah(name, buildah=podman_lab.buildah, isolation=isolation, lend_python=plain) as context:
            assert context.call(far.version) == sys.version_info[:2]
        assert set(os.listdir(where)) - set(before) == set()
