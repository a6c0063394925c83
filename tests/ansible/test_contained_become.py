"""Become in containers: accounts, flags, programs and refusals are what they are by the collection's own plugin."""

import json
import pwd
import re
from pathlib import Path

import pytest

from tests.ansible import cores
from tests.ansible.test_become import names
from tests.ansible.test_connections import complete, run, same

pytestmark = [pytest.mark.ansible, pytest.mark.timeout(500)]

HOST = ("/usr", "/etc", "/lib", "/lib64", "/bin", "/sbin", "/home")


@pytest.fixture(scope="module")
def boxes(lab, docker_lab, podman_lab):
    """The labs, and what their programs want in the environment."""
    lab.materials()
    return docker_lab, podman_lab, {"DOCKER_HOST": docker_lab.host, **docker_lab.env, **podman_lab.env}


@pytest.fixture(scope="module")
def hosts(lab, boxes):
    """Containers that have the programs and accounts of this machine."""
    docker, podman, _ = boxes
    mounts = ["--volume=%s:%s:ro" % (path, path) for path in HOST] + ["--hostname=localhost"]
    store = " ".join(podman.program[podman.program.index("podman") + 1:])
    made = [box.run_container(options=mounts, mounts=False, command=["/usr/bin/sleep", "1000000"])
            for box in (docker, podman)]
    d = {"ansible_connection": "community.docker.docker", "ansible_host": made[0],
         "ansible_remote_tmp": "/tmp/.ansible-{{ inventory_hostname }}"}
    p = {"ansible_connection": "containers.podman.podman", "ansible_host": made[1],
         "ansible_podman_extra_args": store, "ansible_remote_tmp": "/tmp/.ansible-{{ inventory_hostname }}"}
    password = {"ansible_become_password": lab.accounts.password}
    # by number: docker looks names up in the image
    ann, bob = ({"ansible_user": str(pwd.getpwnam(name).pw_uid)} for name in (lab.accounts.ann, lab.accounts.bob))
    found = complete({"d1": {**d, **ann, **password}, "d2": {**d, **bob}, "p3": {**p, **bob}, "d4": {**d, **password}})
    yield {name: {**each, "ansible_python_interpreter": "/usr/bin/python3"} for name, each in found.items()}
    docker.remove(made[0])
    podman.remove(made[1])


@pytest.fixture(scope="module")
def counted(lab):
    """The path of a sudo that counts, for ``/tmp/counted-HOST``."""
    path = Path(pwd.getpwnam(lab.accounts.ann).pw_dir)
    path.chmod(0o755)
    program = path / "counted"
    program.write_text('#!/bin/sh\necho x >>/tmp/counted-"$1"; shift; exec sudo "$@"\n')
    program.chmod(0o755)
    return "%s {{ inventory_hostname }}" % program


@pytest.mark.parametrize("core", [cores.NEWEST, cores.OLDEST], indirect=True)
def test_become_in_containers(lab, core, boxes, hosts, counted):
    stock, ours = (run(lab, core, boxes, "become/contained.yml", mode, hosts, given={**names(lab), "counted": counted})
                   for mode in ("stock", "strategy"))
    assert not stock.status, stock.stdout
    tries = []
    for outcome in stock, ours:
        found = [row["result"] for row in outcome.rows if row["task"] == "how often"]
        tries.append(sum(int(each["stdout"] or 0) for each in found))
        for each in found:
            each["stdout"] = each["stdout_lines"] = "*"
        hide(outcome)
    same(stock, ours)
    assert 0 < tries[1] <= tries[0], "a wrong password is tried more often than in stock: %r" % tries


def hide(outcome):
    """What sudo says of a wrong password: in stock it asks three times, and reads the module as further passwords.
    Where it asks for none, stock may lose what the command says at once, as it looks for a prompt in it."""
    for row in outcome.rows:
        if ((row["host"] in ("d1", "d4") and row["task"].startswith("wrong"))
                or (row["host"], row["task"]) == ("d2", "wrong, raw")):
            said = {row["result"].pop(name, "") for name in ("module_stderr", "stderr")}
            assert row["host"] != "d1" or any("Sorry, try again." in each for each in said)
            for name in "stdout", "stdout_lines", "stderr_lines":
                row["result"].pop(name, None)
            row["tags"] = {}
    outcome.stdout = re.sub(r"(?m)^fatal: \[d1\].*Sorry, try again.*$", "fatal: wrong", outcome.stdout)


@pytest.mark.parametrize("core", [cores.NEWEST, cores.OLDEST], indirect=True)
def test_a_container_that_dies(lab, core, boxes):
    """While a command runs in it, and after that: what the collection's own plugin says, once."""
    docker, podman, _ = boxes
    store = " ".join(podman.program[podman.program.index("podman") + 1:])
    found = []
    for mode in "stock", "strategy":
        one, other = docker.run_container(), podman.run_container()
        hosts = {"d1": {"ansible_connection": "community.docker.docker", "ansible_host": one, "container": one,
                        "program": "docker"},
                 "p2": {"ansible_connection": "containers.podman.podman", "ansible_host": other, "container": other,
                        "ansible_podman_extra_args": store, "program": " ".join(podman.program)}}
        try:
            outcome = run(lab, core, boxes, "contained_dies.yml", mode, complete(hosts), given={"soon": "6"})
        finally:
            docker.remove(one)
            podman.remove(other)
        ids = re.compile("%s|%s|[0-9a-f]{64}" % (one, other))
        outcome.rows = [row for row in json.loads(ids.sub("ID", json.dumps(outcome.rows))) if row["task"] != "soon"]
        outcome.stdout = ids.sub("ID", outcome.stdout)
        for row in outcome.rows:  # by podman stock makes a file of the module, which is not there any more
            if row["task"] == "while it dies":
                row["result"].pop("warnings", None)
        outcome.stderr = re.sub(r"\[WARNING\]: Error deleting remote temporary files[^[]*", "", outcome.stderr)
        found.append(outcome)
    died = [row["result"]["rc"] for row in found[0].rows if row["task"] == "while it dies"]
    assert died == [137, 137]
    same(*found)
