"""The bundle is small, complete, in order, and loads on any Python."""

import marshal
import os
import pathlib
import subprocess
import sys
import zipfile
import zlib

import pytest

import contextree
from contextree.core.wire.errors import InternalError
from contextree.master import bundle
from contextree.master.minify import minify
from contextree.master.scan import module_level_imports, parse

SITE = pathlib.Path(contextree.__file__).parent.parent
CORE = SITE / "contextree" / "core"


def test_bundle_is_at_most_20000_bytes():
    assert len(bundle.build()) <= bundle.LIMIT == 20_000


def test_bundle_is_marshalled_names_and_sources():
    assert marshal.loads(zlib.decompress(bundle.build())) == bundle.modules()
    assert bundle.build() is bundle.build()


def test_bundle_holds_every_core_file_minified():
    files = {
        ".".join(path.relative_to(SITE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in CORE.rglob("*.py")
        if path.name != bundle.NOT_SENT
    }
    modules = bundle.modules()
    assert {name for name, _ in modules} == set(files)
    assert len(modules) == len(files)
    for name, source in modules:
        assert source == minify(files[name].read_text(encoding="utf-8"), annotations=False)


def test_bundle_puts_every_module_after_what_it_imports():
    names = [name for name, _ in bundle.modules()]
    packages = {name.rpartition(".")[0] for name in names}
    for position, (name, source) in enumerate(bundle.modules()):
        tree = parse(source)
        assert tree is not None
        package = name if name in packages else name.rpartition(".")[0]
        needed = [package] if package != name else []
        for module, taken in module_level_imports(tree, package):
            needed += [module, *(f"{module}.{each}" for each in taken)]
        for each in needed:
            assert each not in names or each.startswith(name + ".") or names.index(each) < position, (name, each)


def test_bundle_list_belongs_to_the_caller():
    bundle.modules().clear()
    assert bundle.modules()


def test_bundle_order_is_by_need_then_by_name():
    assert bundle.in_order({"a": {"c"}, "b": set(), "c": {"b"}, "d": set()}) == ["b", "c", "a", "d"]


def test_bundle_order_names_a_circle():
    with pytest.raises(InternalError, match="circle: a, b"):
        bundle.in_order({"a": {"b"}, "b": {"a"}, "c": set()})


def test_bundle_is_the_same_from_a_zip(tmp_path):
    archive = tmp_path / "site.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for path in (SITE / "contextree").rglob("*.py"):
            opened.write(path, str(path.relative_to(SITE)))
    script = (
        "import sys; from contextree.master import bundle; assert '.zip' in bundle.__file__;"
        "sys.stdout.buffer.write(bundle.build())"
    )
    environment = {**os.environ, "PYTHONPATH": str(archive)}
    command = [sys.executable, "-W", "error", "-c", script]
    result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, check=True)
    assert result.stdout == bundle.build()


def test_bundle_sees_a_core_of_several_levels(tmp_path, monkeypatch):
    files = {
        "__init__.py": "",
        "first_stage.py": "import sys  # text for python -c\n",
        "main.py": "from contextree_like.core import router\n\ndef late():\n    from . import zlast\n",
        "router.py": "from .wire import frames\nTYPE_CHECKING = False\nif TYPE_CHECKING:\n    from . import main\n",
        "zlast.py": "from . import main\n",
        "wire/__init__.py": "",
        "wire/frames.py": "from contextree_like.core.wire.errors import Error\n",
        "wire/errors.py": "class Error(Exception):\n    '''Doc.'''\n",
        "data/readme.txt": "no module",
        "no_package/module.py": "x = 1",
    }
    for name, text in files.items():
        path = tmp_path / "contextree_like" / "core" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(bundle, "CORE", "contextree_like.core")
    try:
        names = [name.removeprefix("contextree_like.core") for name, _ in bundle._modules.__wrapped__()]
    finally:
        for name in [name for name in sys.modules if name.startswith("contextree_like")]:
            del sys.modules[name]
    assert names == ["", ".wire", ".wire.errors", ".wire.frames", ".router", ".main", ".zlast"]
