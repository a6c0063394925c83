"""The public API is typed: for mypy and for pyright, in the wheel too, and at no cost when a program runs."""

import inspect
import subprocess
import sys
import typing
import zipfile
from pathlib import Path

import pytest

import contextree

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))
PUBLIC = [getattr(contextree, name) for name in contextree.__all__]


def functions():
    """Every public function, and every public method that contextree defines, once."""
    for thing in PUBLIC:
        if inspect.isfunction(thing):
            yield thing
        elif inspect.isclass(thing):
            for kind in thing.__mro__:
                if kind.__module__.startswith("contextree."):
                    for name, value in vars(kind).items():
                        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
                        if inspect.isfunction(function) and (name == "__init__" or not name.startswith("_")):
                            yield function


@pytest.mark.parametrize("function", {each.__qualname__: each for each in functions()}.values(),
                         ids=lambda each: each.__qualname__)
def test_every_public_signature_is_annotated(function):
    signature = inspect.signature(function)
    bare = [name for name, parameter in signature.parameters.items()
            if name not in ("self", "cls") and parameter.annotation is inspect.Parameter.empty]
    if function.__name__ != "__init__" and signature.return_annotation is inspect.Signature.empty:
        bare.append("return")
    assert not bare


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(path, tmp_path):
    done = subprocess.run([sys.executable, path], cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_generic_classes_can_be_named_in_annotations_that_run():
    def total(numbers: contextree.Stream[int], first: contextree.CallFuture[int]) -> None: ...

    assert typing.get_type_hints(total)["first"].__origin__ is contextree.CallFuture
    assert typing.get_type_hints(total)["numbers"] is contextree.Stream


def modules(context):
    """What is imported there."""
    return set(context.call(eval, "list(__import__('sys').modules)"))


def test_what_is_for_type_checkers_costs_nothing_at_run_time():
    with contextree.Router() as router:
        child = router.local()
        assert not {"typing", "typing_extensions"} & modules(child)
        child.local().shutdown()  # now it has the parent's half, too
        assert "contextree.parent.context" in modules(child)
        assert not {"typing_extensions", "contextree.parent.options"} & modules(child)


def test_wheel_has_the_marker_and_the_names(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    (source / "contextree").symlink_to(ROOT / "contextree")
    script = "import setuptools.build_meta as backend; print(backend.build_wheel(%r))" % str(tmp_path)
    done = subprocess.run([sys.executable, "-c", script], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = wheel.namelist()
    assert "contextree/py.typed" in names
    assert "contextree/parent/options.py" in names


def test_names_are_imported_when_they_are_named():
    code = ("import sys, contextree\n"
            "def there(): return {name for name in sys.modules if name.startswith('contextree.')}\n"
            "assert not there(), there()\n"
            "contextree.join\n"
            "assert not {name for name in there() if name.startswith('contextree.master')}, there()\n"
            "assert set(contextree.__all__) <= set(dir(contextree))\n"
            "from contextree import *\n"
            "assert not {name for name in contextree.__all__ if name not in globals()}\n")
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
