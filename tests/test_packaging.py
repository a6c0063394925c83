"""What is installed: the collection for Ansible beside the package, and what its plugins do where they cannot work."""

import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import zipfile

import pytest

import contextree
from tests.lab.pythons import ROOT

COLLECTION = "ansible_collections/contextree/fast"
NAME = COLLECTION.replace("/", ".")


@pytest.fixture
def ready(monkeypatch):
    """``controller.ready``, which judges contextree alone: there need be no Ansible here."""
    module = importlib.import_module(NAME + ".controller.ready")
    ours = {name: needed for name, needed in module.NEEDED.items() if name.startswith("contextree")}
    monkeypatch.setattr(module, "NEEDED", ours)
    module.fault.cache_clear()
    yield module
    module.fault.cache_clear()


def test_versions_are_the_same():
    project = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    collection = re.search(r"^version: (\S+)", (ROOT / "ansible_plugin/galaxy.yml").read_text(), re.MULTILINE)
    assert project[1] == collection[1] == contextree.__version__


def test_wheel_and_sdist_have_the_whole_collection(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for name in ("contextree", "ansible_plugin"):
        (source / name).symlink_to(ROOT / name)
    (source / COLLECTION).parent.mkdir(parents=True)
    (source / COLLECTION).symlink_to("../../ansible_plugin")
    script = "import setuptools.build_meta as made; made.build_wheel(%r); made.build_sdist(%r)" % ((str(tmp_path),) * 2)
    done = subprocess.run([sys.executable, "-c", script], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    here = ROOT / "ansible_plugin"
    wanted = {f"{COLLECTION}/{path.relative_to(here)}"
              for path in here.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert wanted <= names
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        files = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert wanted <= files
    assert not any(name.startswith(("ansible_plugin/", "tests/")) for name in names)
    # of the package "ansible", should that be installed too: a file of ours there would take its place
    assert not {"ansible_collections/__init__.py", "ansible_collections/contextree/__init__.py"} & names


def test_fault_there_is_none(ready):
    assert ready.fault() is None


@pytest.mark.parametrize(("module", "name", "said"), [
    ("contextree", "Router.no_such", r"the collection is of version [\d.]+ and contextree, in /.*, of [\d.]+, where "
                                     r"contextree has no Router.no_such"),
    ("contextree.no_such", "x", "the Python package contextree cannot be imported by /.*, which runs ansible: "
                                "ModuleNotFoundError: "),
])
def test_fault_is_one_sentence(ready, module, name, said):
    ready.NEEDED[module] = (*ready.NEEDED.get(module, ()), name)
    assert re.match("contextree.fast falls back to stock execution: " + said, ready.warning(ready.fault()))
    assert "\n" not in ready.fault()
    assert ready.mixin("ready", "Stock").__mro__[1] is ready.Stock


def test_mixin_of_a_module_that_cannot_be_imported_only_warns(ready, monkeypatch):
    monkeypatch.setattr(ready, "_core", lambda: "ansible-core 9.9")
    found = ready.mixin("no_such", "Mixin")
    assert issubclass(found, ready.Stock)
    assert re.match("ansible-core 9.9 is not as expected: ModuleNotFoundError: No module named .*no_such", found.why)


def test_contextree_is_missing(tmp_path):
    (tmp_path / "ansible_collections").symlink_to(ROOT / "ansible_collections")
    script = (f"import sys; sys.path.append({str(tmp_path)!r}); from {NAME}.controller import ready; "
              "print(ready.fault())")
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True)
    said = "the Python package contextree is not installed for /.*, which runs ansible\n"
    assert re.fullmatch(said, done.stdout), done


PROGRAM = '''
import sys
import contextree
from ..target import process

def main(word):
    """Call a function of the collection at a host that has none of it, and nothing of ours."""
    assert "ansible" not in sys.modules
    with contextree.Router() as router:
        child = router.local()
        print(child.call(process.run, ["echo", word]))
'''


def test_multiplexer_finds_its_modules_wherever_the_collection_is(tmp_path):
    """In a folder that is on no path, while another copy, which is broken, can be imported."""
    folder = tmp_path / "anywhere" / COLLECTION
    for name in ("controller", "target"):
        (folder / name).mkdir(parents=True)
        for path in (ROOT / "ansible_plugin" / name).glob("*.py"):
            (folder / name / path.name).write_text(path.read_text())
    (folder / "__init__.py").touch()
    (folder / "controller" / "planted.py").write_text(PROGRAM)
    other = tmp_path / "other" / COLLECTION
    other.mkdir(parents=True)
    (other.parents[1] / "__init__.py").write_text("raise ImportError('the wrong one')")
    program = f"""
import importlib.util, sys
sys.path[:0] = [{str(other.parents[2])!r}, {str(ROOT)!r}]
spec = importlib.util.spec_from_file_location({NAME + ".controller.ready"!r}, {str(folder / "controller/ready.py")!r})
ready = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ready)
importlib.import_module(ready.package() + ".controller.planted").main("there")
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", program], cwd="/", env=environment, capture_output=True, text=True)
    assert done.stdout == "(0, b'there\\n', b'')\n", done.stderr
