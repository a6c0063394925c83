"""Fixtures that every test has: the leak guard around it, the private sshd, the Pythons of this machine."""

import gc
import os

import pytest

from tests import guard, wide
from tests.lab import boxes, trees
from tests.lab import containers as lab_containers
from tests.lab import kube as lab_kube
from tests.lab import pythons as lab_pythons
from tests.lab.handmade import Handmade
from tests.lab.lxc import Lxc
from tests.lab.lxd import Incus, Lxd
from tests.lab.machines import Machines, Nspawn
from tests.lab.sshd import CannotStart, Sshd

# with daemons that each process would start for itself; one after the other in one of them
LABS = """methods/test_every_way test_docs methods/test_containers methods/test_lending methods/test_lending_inside
    methods/test_systemd methods/test_namespaces methods/test_lxc methods/test_hanging""".split()
LONG = [*LABS, *"""keepalive/test_silence keepalive/test_hosts methods/test_accounts attacks/test_s_09_floods
    executor/test_cpython ssh/test_paramiko_life ssh/test_accounts ssh/test_secrets methods/test_account_dialogues
    cli/test_cli loops/test_gevent calls/test_cancel parent/test_reaper_stolen parent/test_reaper_wait ssh/test_login
    ssh/test_network jobs/test_jobs wire/test_values_hostile ending/test_faults ending/test_endings
    matrix/test_odd_pythons ending/test_stubborn parent/test_reaper_isolation calls/test_channels calls/test_coroutines
    gi/test_gevent_children matrix/test_bundle_matrix ssh/test_tree files/test_transfer loops/test_cothread
    loops/test_aio ssh/test_paramiko fork/test_life ansible/test_smoke test_lab test_bench methods/test_container_labs
    test_tooling""".split()]


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is there before the first test, three hundred thousand objects, is there to the last: no search for garbage
    looks at it, neither while it grows nor later (half a second for each, and there are hundreds in a run)."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish():
    """hypothesis may be imported for its summary, and asks which objects refer to one of trio's."""
    gc.unfreeze()


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items):
    """Files that take long come first: the processes take file after file, and all are to be busy until the end."""
    wide.mark(items)
    yield
    places = {"tests/%s.py" % name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Whole files to each process, as with loadfile; those of the labs to one."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    labs = ["tests/%s.py" % name for name in LABS]

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "labs" if file in labs else file

    return Scheduling(config, log)


def pytest_runtest_logreport(report):
    """What fails is told to run_tests.sh at once: a run that is stopped has no summary."""
    path = os.environ.get("CONTEXTREE_FAILURES")
    if report.failed and path and "PYTEST_XDIST_WORKER" not in os.environ:
        crash = getattr(report.longrepr, "reprcrash", None)
        said = (crash.message if crash else str(report.longrepr)).strip().partition("\n")[0]
        with open(path, "a") as file:
            file.write("%s (%s): %s\n" % (report.nodeid, report.when, said))


@pytest.fixture(scope="session", autouse=True)
def guard_run():
    """What session fixtures leave behind fails the run."""
    with guard.watch("the whole run (a fixture wider than one test)"):
        yield


@pytest.fixture(autouse=True)
def guard_test(request, guard_run):
    """Every test leaves descriptors, threads and processes as it found them."""
    if request.node.get_closest_marker("leaks"):
        yield
        return
    with guard.watch(request.node.nodeid):
        yield


@pytest.fixture(scope="session")
def sshd():
    """A private sshd (tests.lab.sshd.Sshd): the one that run_tests.sh started, else one for this run."""
    state = os.environ.get("CONTEXTREE_LAB_SSHD")
    if state:
        yield Sshd.load(state)
        return
    try:
        server = Sshd.up()
    except CannotStart as error:
        pytest.skip("private sshd: %s" % error)
    yield server
    server.down()


@pytest.fixture(scope="session")
def pythons():
    """{"3.6": tests.lab.pythons.Python, ...}: one of each minor version on this machine."""
    return lab_pythons.one_each()


def started(kind):
    """A lab, for as long as the session lasts; skips where it cannot be had."""
    try:
        lab = kind.up()
    except (lab_containers.CannotStart, boxes.CannotStart, trees.CannotMake) as error:
        pytest.skip("%s: %s" % (kind.kind, error))
    try:
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="session")
def docker_lab():
    """A private docker engine (tests.lab.containers.Docker)."""
    yield from started(lab_containers.Docker)


@pytest.fixture(scope="session")
def podman_lab():
    """A private store of podman's (tests.lab.containers.Podman)."""
    yield from started(lab_containers.Podman)


@pytest.fixture(scope="session")
def kube_lab():
    """A server that kubectl can talk to (tests.lab.kube.Kube)."""
    try:
        lab = lab_kube.Kube.up()
    except lab_kube.CannotStart as error:
        pytest.skip("kubectl: %s" % error)
    yield lab
    lab.down()


@pytest.fixture(scope="session")
def lxc_box():
    """LXC in a private lxcpath (tests.lab.lxc.Lxc)."""
    yield from started(Lxc)


@pytest.fixture(scope="session")
def lxd_box():
    """A private LXD (tests.lab.lxd.Lxd)."""
    yield from started(Lxd)


@pytest.fixture(scope="session")
def nspawn_box():
    """Trees for systemd-nspawn (tests.lab.machines.Nspawn)."""
    yield from started(Nspawn)


@pytest.fixture(scope="session")
def machines_box():
    """A private systemd-machined (tests.lab.machines.Machines)."""
    yield from started(Machines)


@pytest.fixture(scope="session")
def handmade_box():
    """Containers made by hand (tests.lab.handmade.Handmade)."""
    yield from started(Handmade)


@pytest.fixture(scope="session")
def incus_box():
    """A private Incus (tests.lab.lxd.Incus)."""
    yield from started(Incus)
