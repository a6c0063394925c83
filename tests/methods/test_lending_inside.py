"""A Python that is lent to what has none: a tree of its own, copied there or mounted, and nothing of it left."""

import os
import subprocess
import sys

import pytest

import contextree
from tests.lab import trees
from tests.lab.poll import until
from tests.methods import indoors

NONE = r"looked for python3|no sh in the instance, or no Python to be found"


@pytest.fixture(scope="module")
def standalone(tmp_path_factory):
    """A folder that is a whole Python: it runs wherever the folder is, and wants nothing of the system."""
    return trees.standalone(tmp_path_factory.mktemp("lent") / "python")


class Bare:
    """A place without a Python: ``open`` a context there, ``root`` is its root directory, seen from here."""

    def __init__(self, root, method, *target, **options):
        self.root = root
        self.method = method
        self.target = target
        self.options = options

    def open(self, router, **options):
        return getattr(router, self.method)(*self.target, **self.options, **options)

    def left(self):
        """Names in its root directory that are ours."""
        return [name for name in os.listdir(self.root) if "contextree" in name]


@pytest.fixture(params=["chroot", "setns", "setns_users", "setns_nsenter", "lxc", "lxd", "nspawn"])
def bare(request):
    """Each kind of place."""
    def box(name):
        return request.getfixturevalue(name + "_box")

    if request.param == "chroot":
        tree = box("handmade").tree("")
        return Bare(tree, "chroot", tree)
    if request.param.startswith("setns"):
        pid = box("handmade").container("", users=request.param == "setns_users")
        more = {"tool": "nsenter"} if request.param == "setns_nsenter" else {}
        return Bare("/proc/%d/root" % pid, "setns", pid, **more)
    if request.param == "lxc":
        name = box("lxc").container("")
        return Bare("/proc/%d/root" % box("lxc").init(name), "lxc", name, lxcpath=box("lxc").path)
    if request.param == "lxd":
        name = box("lxd").bare()
        return Bare("/proc/%d/root" % box("lxd").init(name), "lxd", name, lxc=box("lxd").client)
    tree = box("nspawn").tree("")
    return Bare(tree, "nspawn", tree, register=False, extra_args=box("nspawn").extra_args)


def test_it_runs_and_leaves_nothing(router, bare, standalone):
    with pytest.raises(contextree.ConnectError, match=NONE):
        bare.open(router)
    with bare.open(router, lend_python=standalone, name="lent") as box:
        assert box.call(abs, -1) == 1
        assert "contextree-" in box.call(indoors.executable)
        if bare.method != "nspawn":  # there it is mounted, where nobody sees it from outside
            assert len(bare.left()) == 1
        with box.fork() as forked, box.local() as below:
            assert forked.call(indoors.executable) == below.call(indoors.executable) == box.call(indoors.executable)
    until(lambda: not bare.left(), "it to be removed")
    with pytest.raises(contextree.ConnectError, match=NONE):
        bare.open(router)


@pytest.mark.parametrize("bare", ["chroot", "setns_users", "lxd", "nspawn"], indirect=True)
def test_as_a_user_and_by_another_name(router, bare, standalone):
    (standalone / "bin/other").write_text((standalone / "bin/python3").read_text())
    (standalone / "bin/other").chmod(0o755)
    options = {} if bare.method in ("lxc", "chroot", "lxd", "nspawn") else {"user": "ann"}
    with bare.open(router, lend_python=standalone, python=["bin/other", "-X", "utf8"], **options) as box:
        assert box.call(indoors.executable).endswith("/bin/other")
        assert box.call(indoors.who)[0] == (1234 if options else 0)
    until(lambda: not bare.left(), "it to be removed")


@pytest.mark.parametrize("bare", ["chroot", "setns", "nspawn"], indirect=True)
def test_what_cannot_be_lent(router, bare, standalone, tmp_path):
    with pytest.raises(contextree.ConnectError, match=r"/no/such/python|No such file"):
        bare.open(router, lend_python="/no/such/python")
    with pytest.raises(contextree.ConnectError, match="no-such-program"):
        bare.open(router, lend_python=standalone, python="bin/no-such-program")
    (tmp_path / "empty").mkdir()
    with pytest.raises(contextree.ConnectError, match=r"bin/python3"):
        bare.open(router, lend_python=tmp_path / "empty")
    until(lambda: not bare.left(), "it to be removed")


def test_it_is_removed_when_the_master_is_killed(handmade_box, standalone):
    """What is to be done afterwards is done by somebody who outlives us."""
    tree = handmade_box.tree("")
    program = ("import os, signal, contextree; router = contextree.Router(); "
               "router.chroot(%r, lend_python=%r); os.kill(os.getpid(), signal.SIGKILL)" % (str(tree), str(standalone)))
    done = subprocess.run([sys.executable, "-c", program], timeout=30, check=False)
    assert done.returncode == -9
    until(lambda: not [name for name in os.listdir(tree) if "contextree" in name], "it to be removed")


def test_links_and_modes_are_copied(router, handmade_box, standalone):
    (standalone / "bin/link").unlink(missing_ok=True)
    (standalone / "bin/link").symlink_to("python3")
    with router.chroot(handmade_box.tree(""), lend_python=standalone, python="bin/link", user="ann") as box:
        place = box.call(indoors.executable).rpartition("/bin/")[0]
        assert box.call(os.readlink, place + "/bin/link") == "python3"
        assert box.call(os.access, place + "/bin/python3", os.X_OK)
        assert not box.call(os.access, place + "/bin", os.W_OK)
