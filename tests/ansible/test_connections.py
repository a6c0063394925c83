"""Connections of collections: containers of all kinds, by the collection's own plugin and by ours."""

import difflib
import re

import pytest

from tests.ansible import collections, cores
from tests.ansible.compare import blocks, differences
from tests.ansible.plays import play
from tests.lab import rootfs
from tests.lab.poll import until
from tests.methods.way_namespaces import JEXEC

pytestmark = [pytest.mark.ansible, pytest.mark.timeout(600)]

OURS = {"community.docker.docker": "docker", "docker": "docker", "community.docker.nsenter": "nsenter",
        "containers.podman.podman": "podman", "podman": "podman", "kubernetes.core.kubectl": "kubectl",
        "community.general.chroot": "chroot", "containers.podman.buildah": "buildah",
        "community.general.jail": "jail", "community.general.incus": "incus", "community.general.lxd": "lxd"}
NOWHERE = {"ansible_host": None, "ansible_user": None}


@pytest.fixture(scope="module")
def boxes(lab, docker_lab, podman_lab, kube_lab):
    """The labs, and what their programs want in the environment."""
    lab.materials()
    environ = {"DOCKER_HOST": docker_lab.host, **docker_lab.env, **podman_lab.env,
               "K8S_AUTH_KUBECONFIG": str(kube_lab.kubeconfig), "BUILDAH_ISOLATION": "chroot"}
    return docker_lab, podman_lab, environ


@pytest.fixture(scope="module")
def hosts(boxes):
    """Containers by the plugin that reaches them, with options of each."""
    docker, podman, _ = boxes
    store = " ".join(podman.program[podman.program.index("podman") + 1:])
    other = docker.run_container()
    found = {
        "d1": {"ansible_connection": "docker", "ansible_host": docker.container},
        "d2": {"ansible_connection": "community.docker.docker", "ansible_host": docker.container,
               "ansible_user": "root", "ansible_docker_extra_args": "--host " + docker.host,
               "ansible_docker_working_dir": "/usr", "ansible_docker_extra_env": {"COLOUR": "light  green"}},
        "k3": {"ansible_connection": "kubernetes.core.kubectl", "ansible_kubectl_pod": "web",
               "ansible_remote_tmp": "/tmp/ctxt-connections/k3/tmp", "ansible_async_dir": "/tmp/ctxt-connections/k3/a"},
        "n4": {"ansible_connection": "community.docker.nsenter",
               "ansible_nsenter_pid": docker.run("inspect", "--format", "{{.State.Pid}}", other)},
        "p5": {"ansible_connection": "containers.podman.podman", "ansible_host": podman.container,
               "ansible_podman_extra_args": store},
        "p6": {"ansible_connection": "podman", "ansible_host": podman.container, "ansible_podman_extra_args": store,
               "ansible_user": "root"},
    }
    yield complete(found)
    docker.remove(other)


def complete(hosts):
    """Hosts as ``play`` wants them."""
    common = {**NOWHERE, "ansible_python_interpreter": rootfs.system_python()}
    return {name: {**common, **each} for name, each in hosts.items()}


def named(hosts):
    """The same, with our connections in place of the collections'."""
    return {name: {**each, "ansible_connection": "contextree.fast." + OURS[each["ansible_connection"]]}
            for name, each in hosts.items()}


def run(lab, core, boxes, playbook, mode, hosts, more=(), given=(), **options):
    """A playbook in one mode, with everything that it is to be compared by."""
    environ = {**boxes[2], "ANSIBLE_COLLECTIONS_PATH": str(collections.make()), **dict(more)}
    outcome = play(lab, core, playbook, mode, hosts=named(hosts) if mode == "connection" else hosts, environ=environ,
                   variables={"there": "/tmp/ctxt-connections", **dict(given)}, timeout=250, **options)
    until(lambda: not boxes[0].processes() and not boxes[1].processes(), "nothing to be left in the containers")
    assert not outcome.left, outcome.left
    # how often a job is asked after is a matter of pace
    outcome.rows[:] = [row for row in outcome.rows if row["event"] != "v2_runner_on_async_poll"]
    outcome.stdout = re.sub(r"(?m)^ASYNC POLL .*\n", "", outcome.stdout)
    return outcome


def same(stock, ours):
    """Fail with each difference on a line, of what was printed only the lines that differ."""
    found = [each for each in differences(stock, ours) if not each.startswith("stdout/")]
    one, other = (blocks(outcome.stdout, True) for outcome in (stock, ours))
    for heading in {**one, **other}:
        found += ["%s: %s" % (heading, line) for line in difflib.ndiff(one.get(heading, []), other.get(heading, []))
                  if line[0] in "-+"]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("core", [cores.NEWEST, cores.OLDEST], indirect=True)
def test_containers_as_by_the_collections(lab, core, boxes, hosts):
    """Every kind at once, redirected by the strategy: results, files and messages, key by key."""
    stock = run(lab, core, boxes, "connections.yml", "stock", hosts)
    assert not stock.status, stock.stdout
    ours = run(lab, core, boxes, "connections.yml", "strategy", hosts)
    same(stock, ours)
    assert ours.stats["links"] == len(hosts)
    assert set(ours.stats["fallbacks"]) == {"a command without a shell"}


def test_no_link_as_without_us(lab, core, boxes):
    """No Python, no shell, not running, not there, no engine: what the collection's own plugin says."""
    docker, podman, _ = boxes
    store = " ".join(podman.program[podman.program.index("podman") + 1:])
    made = [docker.run_container(image="bare", mounts=False), docker.run_container(), docker.run_container()]
    docker.run("stop", "-t", "0", made[1])
    docker.run("pause", made[2])
    gone = podman.run_container()
    podman.run("stop", "-t", "0", gone)
    by = {"ansible_connection": "community.docker.docker"}
    hosts = complete({
        "d1": {**by, "ansible_host": made[0], "ansible_python_interpreter": "/usr/bin/python3"},
        "d2": {**by, "ansible_host": made[1]}, "d3": {**by, "ansible_host": made[2]},
        "d4": {**by, "ansible_host": "no-such-container"},
        "d5": {**by, "ansible_host": docker.container, "ansible_user": "nobody-there"},
        "d6": {**by, "ansible_host": docker.container, "ansible_docker_extra_args": "--host unix:///nowhere"},
        "p7": {"ansible_connection": "containers.podman.podman", "ansible_host": gone,
               "ansible_podman_extra_args": store},
        "p8": {"ansible_connection": "podman", "ansible_host": podman.container,
               "ansible_podman_executable": "nothing"},
    })
    try:
        stock = run(lab, core, boxes, "absent.yml", "stock", hosts)
        ours = run(lab, core, boxes, "absent.yml", "strategy", hosts)
        same(stock, ours)
        assert not {"module", "command", "mkdtemp"} & set(ours.stats)
    finally:
        docker.run("unpause", made[2])
        docker.remove(*made)
        podman.remove(gone)


def test_named_ones_as_by_the_collections(lab, core, boxes, handmade_box, incus_box, tmp_path):
    """Those that are only had by name, and those whose program is a stand-in (jail) or an engine of its own (incus)."""
    _, podman, _ = boxes
    tree = handmade_box.tree()
    for name, text in ("jexec", JEXEC % {"tree": tree}), ("jls", "#!/bin/sh\necho ctxt-jail\n"):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    path = "%s:%s:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:%s" % (tmp_path, core.folder, incus_box.PATH)
    environ = {"PATH": path, **incus_box.own_env}
    by = {"ansible_python_interpreter": "/usr/bin/python3"}
    hosts = complete({
        "c1": {**by, "ansible_connection": "community.general.chroot", "ansible_host": str(tree)},
        "b2": {"ansible_connection": "containers.podman.buildah", "ansible_host": podman.working_container()},
        "j3": {**by, "ansible_connection": "community.general.jail", "ansible_host": "ctxt-jail",
               "ansible_user": "ann"},
        "i4": {**by, "ansible_connection": "community.general.incus", "ansible_host": incus_box.common},
    })
    stock = run(lab, core, boxes, "inside.yml", "stock", hosts, more=environ)
    assert not stock.status, stock.stdout
    ours = run(lab, core, boxes, "inside.yml", "connection", hosts, more=environ)
    same(stock, ours)
    assert ours.stats["links"] == len(hosts)
    assert set(ours.stats["fallbacks"]) == {"a command by buildah"}
