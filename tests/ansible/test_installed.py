"""The product installed as users do it, under each ansible-core: found without a path, or it says why it is no use."""

import json
import re

import pytest

from tests.ansible import cores
from tests.ansible.installed import COLLECTION, Environment, build, source, version

pytestmark = [pytest.mark.ansible, pytest.mark.timeout(300)]
FALLS_BACK = "contextree.fast falls back to stock execution: "


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of the product."""
    return build("build_wheel", source(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def environment(core, tmp_path):
    """One without the product."""
    return Environment(core, tmp_path)


def listed(environment, **variables):
    """{path: {collection: version}} by ``ansible-galaxy collection list``."""
    done = environment.ansible("galaxy", "collection", "list", "--format", "json", **variables)
    return {path: {name: each["version"] for name, each in found.items()}
            for path, found in json.loads(done.stdout).items()}


def warnings(done):
    """What a run has said, without spaces: ansible-core before 2.19 breaks lines anywhere."""
    return re.sub(r"\s", "", done.stderr)


@pytest.mark.parametrize("core", cores.PYTHONS, indirect=True)
def test_wheel(environment, wheel):
    environment.install(wheel)
    assert listed(environment)[str(environment.site / "ansible_collections")] == {"contextree.fast": version()}
    done, requests = environment.play(ANSIBLE_STRATEGY="contextree.fast.linear")
    assert (requests > 0, done.stderr) == (True, "")
    done, requests = environment.play(connection="contextree.fast.local")
    assert (requests > 0, done.stderr) == (True, "")
    shown = environment.ansible("doc", "-t", "strategy", "contextree.fast.free").stdout
    assert "ansible.builtin.free" in shown
    shown = environment.ansible("doc", "-t", "connection", "contextree.fast.ssh").stdout
    assert "one link to each host" in " ".join(shown.split())
    assert "ssh_executable" in shown  # an option of core's


@pytest.mark.parametrize("mode", ["lenient", "strict"])
def test_editable(environment, tmp_path, mode):
    (tmp_path / "source").mkdir()
    (tmp_path / "wheel").mkdir()
    home = source(tmp_path / "source")
    environment.install(build("build_editable", home, tmp_path / "wheel", {"editable_mode": mode}))
    found = {path: names for path, names in listed(environment).items() if "contextree.fast" in names}
    assert list(found.values()) == [{"contextree.fast": version()}]
    assert next(iter(found)).startswith(str(home))
    done, requests = environment.play(ANSIBLE_STRATEGY="contextree.fast.linear")
    assert (requests > 0, done.stderr) == (True, "")


def test_tarball_beside_the_wheel(environment, wheel, tmp_path):
    environment.install(wheel)
    copy = environment.lay(tmp_path / "copy")
    environment.ansible("galaxy", "collection", "build", copy, "--output-path", tmp_path)
    tarball = tmp_path / ("contextree-fast-%s.tar.gz" % version())
    environment.ansible("galaxy", "collection", "install", "--force", "--offline", "-p", tmp_path / "own", tarball)
    # that of the wheel must not be used by anybody: neither by the workers nor by the multiplexer nor on targets
    for path in (environment.site / COLLECTION).rglob("*.py"):
        path.write_text("raise RuntimeError('the wrong one')\n")
    done, requests = environment.play(ANSIBLE_STRATEGY="contextree.fast.linear",
                                      ANSIBLE_COLLECTIONS_PATH=str(tmp_path / "own"))
    assert (requests > 0, done.stderr) == (True, "")


@pytest.mark.parametrize("core", cores.PYTHONS, indirect=True)
def test_tarball_without_contextree(environment, tmp_path):
    environment.lay(tmp_path / "own")
    for options in ({"ANSIBLE_STRATEGY": "contextree.fast.linear"}, {"connection": "contextree.fast.local"}):
        done, _ = environment.play(ANSIBLE_COLLECTIONS_PATH=str(tmp_path / "own"), **options)
        said = warnings(done)
        wanted = f"{FALLS_BACK}the Python package contextree is not installed for {environment.python}, which runs"
        assert said.count(wanted.replace(" ", "")) == said.count(FALLS_BACK.replace(" ", "")) == 1, done.stderr


def test_unknown_core(environment, wheel, tmp_path):
    """One that lacks something that we call; one where something is not as one of our modules expects it; and a
    multiplexer that does not start."""
    environment.install(wheel)
    copy = environment.lay(tmp_path / "own") / "controller"
    ready = (copy / "ready.py").read_text()
    fast = (copy / "fast.py").read_text()
    mux = (copy / "mux.py").read_text()
    assert "    watched = " in mux
    for options, planted, said in (
        ({"ANSIBLE_STRATEGY": "contextree.fast.linear"},
         {"ready.py": ready.replace('"ConnectionBase.reset"', '"ConnectionBase.no_such"')},
         r"ansible-core [\d.]+ is not as expected: ansible.plugins.connection has no ConnectionBase.no_such"),
        ({"connection": "contextree.fast.local"},
         {"ready.py": ready, "fast.py": fast + "\nfrom ansible.plugins.connection import no_such\n"},
         r"ansible-core [\d.]+ is not as expected: ImportError: cannot import name 'no_such' from "),
        ({"ANSIBLE_STRATEGY": "contextree.fast.linear"},
         {"fast.py": fast, "mux.py": mux.replace("    watched = ", "    raise OSError('no room')\n    watched = ")},
         "its multiplexer could not be started: OSError: no room"),
    ):
        for name, text in planted.items():
            (copy / name).write_text(text)
        done, _ = environment.play(ANSIBLE_COLLECTIONS_PATH=str(tmp_path / "own"), **options)
        assert len(re.findall((FALLS_BACK + said).replace(" ", ""), warnings(done))) == 1, done.stderr


def test_another_package_has_all_collections(environment, tmp_path):
    """As the package ``ansible`` does in its site-packages, which come before ours on sys.path."""
    (tmp_path / "source").mkdir()
    (tmp_path / "wheel").mkdir()
    environment.install(build("build_editable", source(tmp_path / "source"), tmp_path / "wheel"))
    theirs = environment.site / "ansible_collections"
    theirs.mkdir()
    (theirs / "__init__.py").touch()
    done, requests = environment.play(ANSIBLE_STRATEGY="contextree.fast.linear")
    assert (requests > 0, done.stderr) == (True, "")
