"""What the master answers to children's module requests: rows P-29 to P-38 and S-09.

Why this file is long: it is a table of the kinds of modules that there are (namespaces, zips, frozen, extensions,
scripts, lazy ones, broken ones), each with the few lines that make one.
"""

import importlib
import importlib.machinery
import importlib.util
import linecache
import marshal
import os
import pathlib
import py_compile
import re
import subprocess
import sys
import textwrap
import threading
import types
import warnings
import zipfile
import zlib

import pytest

from contextree.core.wire.errors import UsageError
from contextree.master import catalog, finder, scan
from contextree.master import record as record_module
from contextree.master.finder import Finder

NATIVE = importlib.machinery.EXTENSION_SUFFIXES[0]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Write files below a directory on ``sys.path``; modules imported from there are forgotten afterwards."""
    root = tmp_path / "site"
    root.mkdir()
    monkeypatch.syspath_prepend(str(root))
    before = set(sys.modules)

    def write(files: dict[str, str | bytes]) -> pathlib.Path:
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            data = content if isinstance(content, bytes) else textwrap.dedent(content).encode()
            path.write_bytes(data)
        importlib.invalidate_caches()
        return root

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def names_of(found: Finder, name: str) -> set[str]:
    return set(found.closure(name))


def shared(name: str, **options) -> Finder:
    found = Finder(**options)
    found.allow(name)
    return found


# -- closures ----------------------------------------------------------------------------------------------------------


def test_closure_follows_every_kind_of_import(tree):
    tree(
        {
            "app/__init__.py": "from . import early",
            "app/early.py": "",
            "app/main.py": """
                import os, app.plain
                import json.decoder
                from .sub import deep, NAME
                from app import taken, not_a_module
                from . import sibling as other
                from .sub.more import *
                try:
                    import helper
                except ImportError:
                    helper = None
                else:
                    import in_else
                if os.name == "nt":
                    import conditional
                class A:
                    import in_class
                    def method(self):
                        async def inner():
                            with open("x"):
                                from outside.pkg import thing
                match os.name:
                    case "posix":
                        import in_case
                import absent
                TYPE_CHECKING = False
                if TYPE_CHECKING:
                    import for_checkers
                """,
            "app/plain.py": "import app.main  # a circle",
            "app/taken.py": "",
            "app/sibling.py": "",
            "app/unused.py": "import unused_elsewhere",
            "app/sub/__init__.py": "NAME = 1",
            "app/sub/deep.py": "from .. import up\nfrom ... import beyond_the_top",
            "app/sub/more.py": "",
            "app/up.py": "",
            "unused_elsewhere.py": "",
            "for_checkers.py": "",
            "helper.py": "",
            "in_else.py": "",
            "conditional.py": "",
            "in_class.py": "",
            "in_case.py": "",
            "outside/__init__.py": "",
            "outside/pkg.py": "",
        }
    )
    app = {"app", "app.early", "app.main", "app.plain", "app.taken", "app.sibling", "app.up"}
    app |= {"app.sub", "app.sub.deep", "app.sub.more"}
    others = {"helper", "in_else", "conditional", "in_class", "in_case", "outside", "outside.pkg"}
    found = Finder()
    assert names_of(found, "app.main") == app | others
    order = found.closure("app.main")
    assert order[:2] == ("app", "app.main")
    assert order.index("outside") < order.index("outside.pkg")
    assert not {"app", "app.main", "helper"} & set(sys.modules)


def test_p_36_stdlib_is_never_in_a_closure_and_never_sent(tree):
    tree({"app.py": "import os, json.decoder, xml.etree, _thread, asyncio, distutils.core"})
    found = shared("app", share=["json.*", "os"])
    assert found.closure("app") == ("app",)
    assert found.closure("os") == found.closure("json.decoder") == found.closure("builtins") == ()
    for name in ("os", "json", "json.decoder", "_socket", "sys", "builtins", "concurrent.futures.thread"):
        assert not found.is_allowed(name)
        record = found.find(name)
        assert (record.found, record.source) == (False, None)
        assert record.reason.startswith("standard library: ")


def test_closure_leaves_out_what_is_blocked(tree):
    tree({"app.py": "import secretmod, fine", "secretmod/__init__.py": "import deeper", "fine.py": "", "deeper.py": ""})
    assert Finder(block=["secretmod"]).closure("app") == ("app", "fine")
    assert Finder(block=["app"]).closure("app") == ()


def test_closure_of_a_namespace_package(tree):
    tree({"ns/one/__init__.py": "import ns.two.inner", "ns/two/inner.py": "", "app.py": "from ns import one"})
    assert names_of(Finder(), "app") == {"app", "ns", "ns.one", "ns.two", "ns.two.inner"}
    assert "ns" not in sys.modules


def test_closure_is_remembered_until_the_file_changes(tree, monkeypatch):
    root = tree({"app.py": "import one", "one.py": "", "two.py": ""})
    found = Finder()
    first = found.closure("app")
    with monkeypatch.context() as patch:
        patch.setattr(catalog, "imports_of", None)
        patch.setattr(catalog, "locate", None)
        assert found.closure("app") is first
        found_again = Finder()
        with pytest.raises(TypeError):
            found_again.closure("app")
    (root / "app.py").write_text("import one, two")
    assert names_of(found, "app") == {"app", "one", "two"}


def test_closure_is_bounded(tree, monkeypatch):
    tree({f"m{number}.py": f"import m{number + 1}" for number in range(40)})
    monkeypatch.setattr(catalog, "CLOSURE_LIMIT", 10)
    assert len(Finder().closure("m0")) <= 10


def test_closure_of_broken_or_strange_source_is_itself(tree):
    tree({"broken.py": "def f(:", "old.py": "print 'two'", "empty.py": "", "nul.py": b"x = 1\0", "deep.py": "(" * 5000})
    for name in ("broken", "old", "empty", "nul", "deep"):
        assert shared(name).closure(name) == (name,)
        assert shared(name).find(name).found
    assert Finder().closure("absent") == Finder().closure("") == Finder().closure("a..b") == ()


def test_closure_stops_at_contextree_itself(tree):
    tree({"app.py": "import contextree, contextree.master.finder"})
    found = shared("app")
    assert found.closure("app") == ("app",)
    assert found.find("contextree").reason == "refused: only the master has 'contextree'"
    assert found.find("contextree.master.finder").reason.startswith("refused: only the master")
    assert found.find("contextree.parent").found
    assert found.find("contextree.core.wire.errors").found


def test_scanning_and_compiling_do_not_warn(tree):
    tree({"app.py": 'x = "\\d"\nassert (x, 1)\n'})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = shared("app").find("app")
        assert record.code(importlib.util.MAGIC_NUMBER)


# -- policy ------------------------------------------------------------------------------------------------------------


def test_allow_shares_whole_packages_of_the_closure(tree):
    tree(
        {
            "app/__init__.py": "",
            "app/models.py": "import dep.part",
            "app/plugins/late.py": "import third",
            "dep/__init__.py": "",
            "dep/part.py": "",
            "dep/other.py": "",
            "third.py": "",
            "secretmod.py": "",
        }
    )
    found = Finder()
    assert not found.is_allowed("app.models")
    found.allow("app.models")
    for name in ("app", "app.models", "app.anything", "dep", "dep.part", "dep.other"):
        assert found.is_allowed(name), name
    assert not found.is_allowed("third")
    assert found.find("third").reason.startswith("refused: ")
    assert found.find("app.plugins.late").found  # by name, at run time
    assert found.find("third").found
    assert not found.find("secretmod").found


def test_allow_again_looks_nothing_up(tree, monkeypatch):
    tree({"app.py": "import one", "one.py": ""})
    found = shared("app")
    assert found.is_allowed("one")
    monkeypatch.setattr(catalog, "imports_of", None)
    monkeypatch.setattr(catalog, "locate", None)
    found.allow("app")
    found.allow("os")
    assert found.is_allowed("one")


def test_what_a_module_imports_is_looked_for_when_somebody_asks(tree, monkeypatch):
    """A function of a package that imports a thousand modules took the first call ten seconds to share, for children
    that have them all on their own disk and never ask."""
    tree({"app.py": "import one", "one.py": "", "two/__init__.py": ""})
    with monkeypatch.context() as patch:
        patch.setattr(catalog, "imports_of", None)
        found = shared("app")
        assert found.is_allowed("app")
        assert found.find("nosuchmodule").reason.startswith("refused: not shared, and the master does not have")
        assert found.find("two.absent").reason == "missing: no module named 'two.absent'"
    assert found.find("one").found and found.find("two").reason.startswith("refused: not shared")


def test_what_a_text_imports_is_read_once_for_all_routers(tree, monkeypatch):
    """Each Router has a Finder of its own: with pytest among what the tests import, four hundred files were parsed for
    each, two seconds."""
    text = "from . import one\nimport uncommon"
    tree({"app.py": text, "pack/__init__.py": "", "pack/app.py": "", "one.py": "", "pack/one.py": "",
          "uncommon.py": ""})
    assert names_of(shared("app"), "app") == {"app", "uncommon"}
    with monkeypatch.context() as patch:
        patch.setattr(scan, "parse", None)
        assert names_of(shared("app"), "app") == {"app", "uncommon"}
    tree({"pack/app.py": text})  # the same text means something else elsewhere
    assert names_of(shared("pack.app"), "pack.app") == {"pack", "pack.app", "pack.one", "uncommon"}


def test_allow_notices_new_imports(tree):
    root = tree({"app.py": "", "one.py": ""})
    found = shared("app")
    assert not found.is_allowed("one")
    (root / "app.py").write_text("import one")
    found.allow("app")
    assert found.is_allowed("one")


def test_allow_in_a_namespace_shares_only_the_package_in_it(tree):
    tree({"ns/mine/__init__.py": "", "ns/mine/sub.py": "", "ns/other/__init__.py": "", "ns/alone.py": ""})
    found = shared("ns.mine.sub")
    assert found.is_allowed("ns")
    assert found.is_allowed("ns.mine.anything")
    assert not found.is_allowed("ns.other")
    assert not found.is_allowed("ns.alone")
    assert found.find("ns").namespace
    assert found.resource_names("ns") is None


def test_share_names_one_module_or_all_below_a_prefix(tree):
    files = {
        "plugins/__init__.py": "",
        "plugins/a.py": "from . import c\nimport dep",
        "plugins/b.py": "",
        "dep/x.py": "",
    }
    tree({**files, "plugins/c.py": "", "dep/__init__.py": "", "plugins/conf.toml": "secret", "plugins/sub/d.txt": ""})
    one = Finder(share=["plugins.a"])
    assert one.find("plugins").found
    assert one.find("plugins.a").found
    assert not one.find("plugins.b").found
    assert one.find("plugins.c").found  # imported by a
    assert one.find("dep.x").found
    assert one.resource("plugins", "conf.toml") is None
    both = Finder(share=["plugins.*"])
    assert both.find("plugins.a").found
    assert both.find("plugins.b").found
    assert both.resource("plugins", "conf.toml") == b"secret"
    package = Finder(share=["plugins"])
    assert not package.find("plugins.b").found
    assert package.resource("plugins", "conf.toml") == b"secret"
    assert package.resource("plugins", "b.py") is None
    assert package.resource("plugins", "sub/d.txt") is None


def test_block_wins_over_everything(tree):
    tree({"app/__init__.py": "", "app/keys.py": "KEY = 1", "app/keys2.py": "", "app/priv/k.txt": "k"})
    found = Finder(share=["app.*"], block=["app.keys", "app.priv.*"])
    found.allow("app.keys")
    found.allow("app")
    found.override("app.priv", "")
    assert found.find("app.keys").reason == "refused: blocked by the master"
    assert found.find("app.priv").reason == "refused: blocked by the master"
    assert found.find("app.keys2").found
    for path in ("keys.py", "KEYS.py", "keys.pyc", f"keys{NATIVE}", "priv/k.txt", "Priv/k.txt", "priv"):
        assert found.resource("app", path) is None, path
    assert found.resource_names("app") == [("__init__.py", False), ("keys2.py", False)]


@pytest.mark.parametrize("wrong", ["app", ["a b"], ["../x"], ["a.**"], [""], ["*"], [None], ["a..b"]])
def test_share_and_block_must_be_lists_of_names(wrong):
    for option in ("share", "block"):
        with pytest.raises(UsageError, match=option):
            Finder(**{option: wrong})


# -- modules -----------------------------------------------------------------------------------------------------------


def test_find_gives_source_path_and_code(tree):
    source = "# -*- coding: latin-1 -*-\n'''Döc.'''\ndef f():\n    return 'ä'  # why\n".encode("latin-1")
    tree({"app/__init__.py": b"x = 1\r\n", "app/models.py": source})
    found = shared("app.models")
    record = found.find("app.models")
    assert (record.name, record.found, record.reason, record.is_package) == ("app.models", True, "", False)
    assert record.source == source
    assert zlib.decompress(record.compressed()) == source
    assert record.path == "master:app/models.py"
    package = found.find("app")
    assert (package.is_package, package.path, package.source) == (True, "master:app/__init__.py", b"x = 1\r\n")
    assert record.code(b"abcd") is None
    code = marshal.loads(record.code(importlib.util.MAGIC_NUMBER))
    names: dict = {}
    exec(code, names)
    assert names["f"]() == "ä"
    assert names["f"].__code__.co_filename == "master:app/models.py"
    assert found.find("app.models") is record


def test_code_comes_from_pythons_own_cache_if_that_is_current(tree, monkeypatch):
    source = "class A:\n    def f(self):\n        return lambda: 1\n"
    root = tree({"cached.py": source, "fresh.py": source})
    compiled = py_compile.compile(str(root / "cached.py"), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    fresh = shared("fresh").find("fresh").code(importlib.util.MAGIC_NUMBER)
    with monkeypatch.context() as patch:
        patch.setattr(record_module, "_compiled", lambda source, path: None)
        code = marshal.loads(shared("cached").find("cached").code(importlib.util.MAGIC_NUMBER))
        assert shared("fresh").find("fresh").code(importlib.util.MAGIC_NUMBER) is None
        assert code == marshal.loads(fresh).replace(co_filename=code.co_filename)
        names = {"__name__": "cached"}
        exec(code, names)
        assert names["A"]().f().__code__.co_filename == "master:cached.py"
        changed = shared("cached")
        changed.modify("cached", lambda text: text)
        assert changed.find("cached").code(importlib.util.MAGIC_NUMBER) is None
        pathlib.Path(compiled).write_bytes(pathlib.Path(compiled).read_bytes()[:30])
        assert shared("cached").find("cached").code(importlib.util.MAGIC_NUMBER) is None
        (root / "cached.py").write_text(source + "#")
        assert shared("cached").find("cached").code(importlib.util.MAGIC_NUMBER) is None
    assert shared("cached").find("cached").code(importlib.util.MAGIC_NUMBER)


def test_find_gives_the_new_source_of_a_changed_file(tree):
    root = tree({"app.py": "x = 1"})
    found = shared("app")
    assert found.find("app").source == b"x = 1"
    (root / "app.py").write_text("x = 222")
    assert found.find("app").source == b"x = 222"
    (root / "app.py").unlink()
    assert found.find("app").reason.startswith("missing: ")
    (root / "app.py").write_text("x = 3")
    importlib.invalidate_caches()
    assert found.find("app").source == b"x = 3"


def test_find_knows_imported_modules_too(tree):
    root = tree({"app/__init__.py": "", "app/one.py": "x = 1", "elsewhere/late.py": "y = 1"})
    app = importlib.import_module("app.one")
    assert app.x == 1
    sys.modules["app"].__path__.append(str(root / "elsewhere"))
    found = shared("app.one")
    assert found.find("app.one").source == b"x = 1"
    assert found.find("app.late").source == b"y = 1"


def test_find_in_a_zip(tree, tmp_path, monkeypatch):
    archive = tmp_path / "lib.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("zipped/__init__.py", "")
        opened.writestr("zipped/inner.py", "import zipped.more")
        opened.writestr("zipped/more.py", "x = 'ü'")
        opened.writestr("zipped/data/a.txt", "text")
        for name in ("zipns/", "zipns/part/"):  # without these, zipimport knows no namespace packages
            opened.writestr(name, "")
        opened.writestr("zipns/part/mod.py", "")
        opened.writestr("zipns/part/b.txt", "b")
    monkeypatch.syspath_prepend(str(archive))
    found = shared("zipped.inner")
    assert found.closure("zipped.inner") == ("zipped", "zipped.inner", "zipped.more")
    record = found.find("zipped.more")
    assert (record.source, record.path) == ("x = 'ü'".encode(), "master:zipped/more.py")
    assert found.find("zipped").source == b""
    assert found.resource("zipped", "data/a.txt") == b"text"
    assert found.resource("zipped", "data") is None
    assert found.resource_names("zipped") == [
        ("__init__.py", False),
        ("data", True),
        ("inner.py", False),
        ("more.py", False),
    ]
    assert found.resource_names("zipped", "data") == [("a.txt", False)]
    assert found.resource_names("zipped", "absent") is None
    assert found.is_resource("zipped", "data/a.txt")
    assert not found.is_resource("zipped", "data")
    assert not found.is_resource("zipped", "data/absent")
    small = shared("zipped.inner", resource_limit=3)
    assert small.resource("zipped", "data/a.txt") is None
    namespace = Finder(share=["zipns.*"])
    assert namespace.find("zipns").namespace
    assert namespace.find("zipns.part.mod").source == b""
    assert namespace.resource("zipns.part", "b.txt") == b"b"


def test_find_a_namespace_package(tree):
    tree({"ns/part/mod.py": "", "ns/data.txt": "d"})
    found = Finder(share=["ns.*"])
    for name in ("ns", "ns.part"):
        record = found.find(name)
        assert record.found
        assert record.is_package
        assert record.namespace
        assert record.submodule_search
        assert record.source is None
        assert record.code(importlib.util.MAGIC_NUMBER) is None
    importlib.import_module("ns.part.mod")
    assert found.find("ns.part").namespace
    assert found.find("ns.part.mod").source == b""
    assert found.resource("ns", "data.txt") == b"d"
    assert found.resource_names("ns") == [("data.txt", False), ("part", True)]


def test_find_a_module_made_in_memory():
    made = types.ModuleType("made_here")
    made.__file__ = "<made here>"
    linecache.cache["<made here>"] = (5, None, ["x = 1\n"], "<made here>")

    class Loader:
        def get_source(self, name):
            return {"made_there": "y = 'ü'\n"}[name]

    there = types.ModuleType("made_there")
    there.__loader__ = Loader()
    mute = types.ModuleType("made_mute")
    try:
        sys.modules.update(made_here=made, made_there=there, made_mute=mute)
        found = Finder(share=["made_here", "made_there", "made_mute"])
        assert found.find("made_here").source == b"x = 1\n"
        assert found.find("made_there").source == "y = 'ü'\n".encode()
        assert found.find("made_mute").reason == "missing: no module named 'made_mute'"
    finally:
        del sys.modules["made_here"], sys.modules["made_there"], sys.modules["made_mute"]
        del linecache.cache["<made here>"]


def test_find_through_an_import_hook(tree, monkeypatch, tmp_path):
    hidden = tmp_path / "hidden.py"
    hidden.write_text("x = 1")

    class Hook:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "hooked":
                return importlib.util.spec_from_file_location(name, hidden)
            if name == "hooked_bad":
                raise RuntimeError("no")
            return None

    monkeypatch.setattr(sys, "meta_path", [Hook, *sys.meta_path])
    found = Finder(share=["hooked", "hooked_bad"])
    assert found.find("hooked").source == b"x = 1"
    assert found.find("hooked_bad").reason.startswith("missing: ")


def test_sys_path_hook_replaces_sys_path(tree, tmp_path):
    tree({"app.py": ""})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "only.py").write_text("x = 1")
    found = Finder(share=["app", "only"], sys_path_hook=lambda: [str(tmp_path / "other")])
    assert found.find("only").source == b"x = 1"
    assert not found.find("app").found
    assert Finder(share=["app"], sys_path_hook=lambda: 1 / 0).find("app").reason.startswith("missing: ")


def test_p_30_module_that_replaces_itself(tree):
    source = """
        import sys
        class Lazy:
            def __getattr__(self, name):
                raise RuntimeError("touched")
        sys.modules[__name__] = Lazy()
        """
    tree({"lazy.py": source, "pkg/__init__.py": "", "pkg/lazy.py": source})
    importlib.import_module("lazy")
    importlib.import_module("pkg.lazy")
    for name in ("lazy", "pkg.lazy"):
        record = shared(name).find(name)
        assert record.found
        assert record.source == textwrap.dedent(source).encode()
        assert not record.is_package


def test_p_31_package_that_becomes_a_module(tree):
    tree(
        {
            "shell/__init__.py": "import sys\nfrom shell import inner\nsys.modules['shell'] = inner\n",
            "shell/inner.py": "x = 1\n",
            "shell/more.py": "",
            "system/__init__.py": "import sys, os\nsys.modules[__name__] = os\n",
            "system/part.py": "y = 1\n",
        }
    )
    importlib.import_module("shell")
    importlib.import_module("system")
    assert sys.modules["system"] is os
    found = shared("shell")
    record = found.find("shell")
    assert (record.is_package, record.source[:10]) == (True, b"import sys")
    assert found.find("shell.inner").source == b"x = 1\n"
    assert found.find("shell.more").found
    assert found.closure("shell") == ("shell", "shell.inner")
    found = shared("system")
    record = found.find("system")
    assert (record.is_package, record.source) == (True, b"import sys, os\nsys.modules[__name__] = os\n")
    assert found.find("system.part").source == b"y = 1\n"


def test_p_32_empty_source_is_empty_not_missing(tree):
    tree({"bare/__init__.py": "", "bare/mod.py": ""})
    found = shared("bare.mod")
    for name in ("bare", "bare.mod"):
        for _ in range(2):
            record = found.find(name)
            assert (record.found, record.source, record.namespace) == (True, b"", False)
            assert zlib.decompress(record.compressed()) == b""
            assert record.code(importlib.util.MAGIC_NUMBER)
        importlib.import_module(name)


def test_p_33_native_and_builtin_modules_are_a_clean_no(tree):
    files = {"app/__init__.py": "import app.fast\nfrom . import both", f"app/fast{NATIVE}": b"\x7fELF"}
    tree({**files, "app/both.py": "x = 1", f"app/both{NATIVE}": b"\x7fELF", "pyc_only.pyc": b"junk"})
    found = shared("app", share=["pyc_only"])
    assert found.closure("app") == ("app", "app.both")
    assert list(found.unsendable) == ["app.fast"]
    record = found.find("app.fast")
    assert not record.found
    assert record.reason == found.unsendable["app.fast"]
    assert re.match(r"native extension: .*fast", record.reason)
    assert found.find("app.both").source == b"x = 1"  # its source lies beside it
    assert found.find("pyc_only").reason == "missing: 'pyc_only' has no source"
    assert found.find("_io").reason.startswith("standard library: ")
    assert found.counters["refused"] == {"native extension": 1, "missing": 1, "standard library": 1}


def test_p_33_loaded_native_module():
    spec = importlib.util.find_spec("_json") or importlib.util.find_spec("_ssl")
    module = types.ModuleType("native_here")
    module.__spec__ = importlib.machinery.ModuleSpec("native_here", None, origin=f"/lib/native_here{NATIVE}")
    module.__spec__.loader = importlib.machinery.ExtensionFileLoader("native_here", module.__spec__.origin)
    assert spec is not None
    sys.modules["native_here"] = module
    try:
        assert shared("native_here", share=["native_here"]).find("native_here").reason.startswith("native extension: ")
    finally:
        del sys.modules["native_here"]


HOSTILE = [
    "",
    ".",
    "app.",
    "app..models",
    ".app",
    "../app",
    "app/models",
    "/etc/passwd",
    "app.models.",
    "app\0",
    "app.models\n",
    "app models",
    "app-x",
    "1app",
    "app.\udc80",
    "app.ﬁ",
    "a" * 256,
    ".".join("a" * 200),
    "app." * 60 + "x" * 100,
    "app.%s%n",
    "*",
    "app.*",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_p_34_what_no_import_could_spell_is_refused(tree, name):
    tree({"app/__init__.py": "", "app/models.py": "", "app/ﬁ.py": ""})
    found = shared("app")
    record = found.find(name)
    assert (record.found, record.source, record.reason) == (False, None, "refused: not a module name")
    assert len(record.name) <= 100
    assert not found.is_allowed(name)
    assert found.closure(name) == ()
    found.allow(name)
    assert found.resource(name, "x") is None
    assert found.resource_names(name) is None
    assert found.counters["refused"] == {"refused": 3}


@pytest.mark.parametrize("value", [None, 1, b"app", ["app"], ("app",), {}, 1.5])
def test_p_34_other_types_are_refused_too(tree, value):
    tree({"app/__init__.py": ""})
    found = shared("app")
    assert found.find(value).reason == "refused: not a module name"
    assert found.resource(value, "x") is None
    assert found.resource("app", value) is None
    assert found.resource_names("app", value) is None
    assert found.is_resource("app", value) is False
    assert found.metadata(value) is None


def test_p_34_deep_names_below_a_shared_package_are_missing(tree):
    tree({"app/__init__.py": ""})
    record = shared("app").find("app" + ".a" * 100)
    assert record.reason.startswith("missing: no module named 'app.a")


def test_s_09_only_what_was_shared_is_given(tree, caplog):
    tree({"app/__init__.py": "", "app/models.py": "", "secretmod.py": "KEY = 1", "secrets2/__init__.py": ""})
    found = shared("app.models")
    for name in ("secretmod", "secrets2", "secrets2.x", "__main__", "contextree.master", "pytest"):
        record = found.find(name)
        assert not record.found
        assert record.source is None
        assert record.reason.startswith("refused: ")
        assert repr(name) in caplog.text
    assert "share=['secretmod.*']" in found.find("secretmod").reason
    assert len([line for line in caplog.messages if "secretmod" in line]) == 1
    assert found.resource("secretmod", "x") is None
    assert found.counters == {"requests": 8, "hits": 0, "refused": {"refused": 8}}


def test_s_09_log_of_refusals_is_bounded(tree, caplog, monkeypatch):
    monkeypatch.setattr(finder, "_LOGGED_NAMES", 5)
    caplog.set_level("DEBUG", "contextree.master.finder")
    found = Finder()
    for number in range(50):
        found.find(f"secret{number}")
    assert len(caplog.messages) == 5
    assert found.counters["refused"]["refused"] == 50


def test_s_09_a_name_that_nobody_has_is_no_warning(tree, caplog):
    tree({"secretmod.py": "KEY = 1"})
    found = Finder()
    assert found.find("org").reason.startswith("refused: ")  # the standard library's copy.py tries Jython's org.python
    assert caplog.messages == []
    assert found.find("secretmod").reason.startswith("refused: ")
    assert len(caplog.messages) == 1


def test_s_09_a_flood_of_absent_names_is_not_remembered(tree):
    tree({"app/__init__.py": ""})
    found = shared("app")
    found.find("app")
    tables = {name: len(value) for name, value in vars(found._catalog).items() if isinstance(value, dict)}
    for number in range(300):
        assert found.find(f"app.absent{number}").reason.startswith("missing: ")
    assert tables == {name: len(value) for name, value in vars(found._catalog).items() if isinstance(value, dict)}
    assert len(found._records) == 1


def test_records_kept_are_bounded(tree, monkeypatch):
    tree({"app/__init__.py": "", **{f"app/m{number}.py": "#" * 1000 for number in range(20)}})
    monkeypatch.setattr(finder, "CACHE_BYTES", 5000)
    found = shared("app")
    for number in range(20):
        assert len(found.find(f"app.m{number}").source) == 1000
    assert len(found._records) == 5
    assert found._record_bytes == 5000


def test_counters_add_up(tree):
    tree({"app/__init__.py": "", "app/a.txt": "a"})
    found = shared("app")
    found.find("app")
    found.find("app.absent")
    found.find("os")
    found.find("nope")
    found.resource("app", "a.txt")
    found.resource("app", "../a.txt")
    refused = {"missing": 1, "standard library": 1, "refused": 2}
    assert found.counters == {"requests": 6, "hits": 2, "refused": refused}


def test_many_threads_get_the_same_answers(tree):
    tree({"app/__init__.py": "", **{f"app/m{n}.py": f"from . import m{n + 1}" for n in range(30)}, "app/m30.py": ""})
    found = Finder()
    wrong: list = []
    start = threading.Barrier(6)

    def work():
        start.wait()
        found.allow("app.m0")
        for number in range(31):
            if not found.find(f"app.m{number}").found or len(found.closure("app.m0")) != 32:
                wrong.append(number)  # noqa: PERF401  several threads write to it

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert found.counters["hits"] == 6 * 31


# -- the main script ---------------------------------------------------------------------------------------------------

SCRIPT = """
import json, sys
from contextree.master.finder import Finder
import beside

finder = Finder()
before = finder.find("__main__").reason
finder.allow("__main__")
record = finder.main_source()
answer = dict(before=before, found=record.found, reason=record.reason, path=record.path, alias=finder.main_alias())
answer.update(closure=finder.closure("__main__"), source=(record.source or b"").decode())
answer["by_alias"] = finder.find(finder.main_alias()).found if finder.main_alias() else None
"""
GUARDED = SCRIPT + 'if __name__ == "__main__":\n    print(json.dumps(answer))\n'
UNGUARDED = SCRIPT + "print(json.dumps(answer))\n"


def run_script(tmp_path, *arguments, text=None) -> dict:
    (tmp_path / "beside.py").write_text("")
    site = str(pathlib.Path(finder.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([site, str(tmp_path)])}
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    result = subprocess.run(command, env=environment, cwd=tmp_path, input=text, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return importlib.import_module("json").loads(result.stdout)


def test_p_29_guarded_script_is_served_once_allowed(tmp_path):
    (tmp_path / "script.py").write_text(GUARDED)
    answer = run_script(tmp_path, "script.py")
    assert answer["before"].startswith("refused: not shared; call a function of it or pass share=['__main__']")
    assert answer["found"]
    assert answer["source"] == GUARDED
    assert answer["path"] == "master:script.py"
    assert answer["alias"] is None
    assert answer["closure"] == ["__main__", "beside"]


def test_p_29_unguarded_script_is_refused_with_help(tmp_path):
    (tmp_path / "script").write_text(UNGUARDED)
    answer = run_script(tmp_path, "script")
    assert not answer["found"]
    assert answer["source"] == ""
    assert 'no `if __name__ == "__main__":`' in answer["reason"]
    assert answer["closure"] == ["__main__", "beside"]


def test_p_29_module_run_by_name_has_an_alias(tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("")
    (tmp_path / "pkg" / "near.py").write_text("")
    (tmp_path / "pkg" / "tool.py").write_text(GUARDED.replace("import beside", "from . import near"))
    answer = run_script(tmp_path, "-m", "pkg.tool")
    assert answer["found"]
    assert answer["by_alias"]
    assert answer["alias"] == "pkg.tool"
    assert answer["closure"] == ["__main__", "pkg", "pkg.tool", "pkg.near"]
    (tmp_path / "pkg" / "tool.py").write_text(UNGUARDED)
    answer = run_script(tmp_path, "-m", "pkg.tool")
    assert (answer["found"], answer["by_alias"]) == (False, False)


def test_p_29_script_in_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as opened:
        opened.writestr("__main__.py", GUARDED)
    answer = run_script(tmp_path, "app.pyz")
    assert answer["found"]
    assert answer["source"] == GUARDED
    assert answer["path"] == "master:__main__.py"


def test_p_29_program_without_a_file(tmp_path):
    for arguments, text in ((["-c", UNGUARDED], None), (["-"], UNGUARDED)):
        answer = run_script(tmp_path, *arguments, text=text)
        assert answer["reason"] == "missing: the main program has no source file"


@pytest.mark.parametrize(
    "text",
    [
        'if __name__ == "__main__":\n    main()',
        "if '__main__' == __name__: main()",
        "x = 1\nif __name__ != '__main__':\n    pass\nelse:\n    main()",
        "if __name__ == '__main__' and len(x): main()",
        "if not (__name__ != '''__main__'''): main()",
        "if __name__ in ('__main__', '__mp_main__'): main()",
        "if __name__ in {'__main__'}: main()",
        "if globals()['__name__'] == '__main__': main()",
        "__name__ == '__main__' and main()",
        "main() if __name__ == '__main__' else None",
        "try:\n    if __name__ == '__main__': main()\nfinally:\n    pass",
        "match __name__:\n    case '__main__' | 'x':\n        main()",
    ],
)
def test_p_29_any_spelling_of_the_guard_counts(text):
    assert Finder().guarded(text)
    assert Finder().guarded(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "main()",
        "# if __name__ == '__main__':",
        "'''\nif __name__ == '__main__':\n'''",
        "def f():\n    if __name__ == '__main__': main()",
        "class A:\n    if __name__ == '__main__': main()",
        "if __name__ == 'main': main()",
        "if name == '__main__': main()",
        "x = __name__ == '__main__'",
        "if (",
    ],
)
def test_p_29_what_is_no_guard(text):
    assert not Finder().guarded(text)


# -- overrides ---------------------------------------------------------------------------------------------------------


def test_p_37_override_reaches_children(tree):
    tree({"app/__init__.py": "", "app/conf.py": "KEY = 'secret'", "app/use.py": "from app import conf", "extra.py": ""})
    found = shared("app.use")
    assert b"secret" in found.find("app.conf").source
    assert "extra" not in found.closure("app.use")
    found.override("app.conf", "import extra\nKEY = 'ü'")
    assert found.find("app.conf").source == "import extra\nKEY = 'ü'".encode()
    assert found.resource("app", "conf.py") == found.find("app.conf").source
    assert "extra" in found.closure("app.use")
    found.allow("app.use")
    assert found.find("extra").found
    found.override("app", "made = 1")
    assert found.find("app").is_package
    assert found.resource("app", "__init__.py") == b"made = 1"
    assert found.find("app.use").found


def test_p_37_override_may_make_modules_up_even_of_the_stdlib():
    found = Finder()
    found.override("made_up", "", is_package=True)
    found.override("made_up.part", "x = 1")
    found.override("dataclasses", b"# a backport")
    assert (found.find("made_up").is_package, found.find("made_up").source) == (True, b"")
    assert found.find("made_up.part").source == b"x = 1"
    assert found.find("dataclasses").source == b"# a backport"
    assert found.closure("made_up.part") == ("made_up", "made_up.part")
    for name in ("", "a-b", "../x", None):
        with pytest.raises(UsageError):
            found.override(name, "")
        with pytest.raises(UsageError):
            found.modify(name, str)


def test_p_37_modifier_reaches_children(tree):
    tree({"app.py": "# -*- coding: latin-1 -*-\nx = 'ä'\n".encode("latin-1"), "extra.py": ""})
    found = shared("app")
    assert found.find("app").found
    found.modify("app", lambda source: source.replace("ä", "ö"))
    assert found.find("app").source == "# -*- coding: latin-1 -*-\nx = 'ö'\n".encode("latin-1")
    found.modify("app", lambda source: "import extra\n" + source)
    assert found.closure("app") == ("app", "extra")
    assert not Finder().find("app").found


def test_p_37_modify_shares_nothing_and_a_failing_one_is_a_refusal(tree, caplog):
    tree({"app.py": "x = 'secret'"})
    found = Finder()
    found.modify("app", lambda source: 1 / 0)
    assert "not shared" in found.find("app").reason
    found.allow("app")
    record = found.find("app")
    assert record.reason == "refused: the modifier of 'app' failed: ZeroDivisionError"
    assert record.source is None
    assert "ZeroDivisionError" in caplog.text
    found.modify("app", lambda source: None)
    assert found.find("app").reason.startswith("refused: the modifier")


# -- resources ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def package(tree):
    root = tree(
        {
            "app/__init__.py": "",
            "app/models.py": "x = 1",
            "app/data/a.txt": "text",
            "app/data/deep/b.bin": b"\0\xff",
            "app/sub/__init__.py": "",
            "app/__pycache__/models.pyc": b"junk",
            "app/empty.txt": "",
            "app/big": b"x" * 1000,
            "config.toml": "secret",
            "appendix/c.txt": "secret",
        }
    )
    app = root / "app"
    (app / "inside").symlink_to(app / "data" / "a.txt")
    (app / "outside").symlink_to(root / "config.toml")
    (app / "outdir").symlink_to(root / "appendix")
    (app / "null").symlink_to("/dev/null")
    (app / "dangling").symlink_to("nowhere")
    (app / "loop").symlink_to("loop")
    os.mkfifo(app / "fifo")
    return root


def test_p_38_resources_of_a_package(package):
    found = shared("app", resource_limit=999)
    assert found.resource("app", "data/a.txt") == b"text"
    assert found.resource("app", "data/deep/b.bin") == b"\0\xff"
    assert found.resource("app", "empty.txt") == b""
    assert found.resource("app", "models.py") == b"x = 1"
    assert found.resource("app", "inside") == b"text"
    assert found.resource("app", "big") is None
    assert found.resource("app.models", "a") is None
    assert found.resource("app.absent", "a") is None
    assert found.resource_names("app") == [
        ("__init__.py", False),
        ("big", False),
        ("data", True),
        ("empty.txt", False),
        ("inside", False),
        ("models.py", False),
        ("sub", True),
    ]
    assert found.resource_names("app", "data") == [("a.txt", False), ("deep", True)]
    assert found.resource_names("app.sub") == [("__init__.py", False)]
    for wrong in ("absent", "empty.txt", "outdir", "data/.."):
        assert found.resource_names("app", wrong) is None


def test_p_38_is_resource(package):
    found = shared("app")
    assert found.is_resource("app", "data/a.txt")
    assert found.is_resource("app", "data/deep/b.bin")
    assert found.is_resource("app", "empty.txt")
    for wrong in (
        "",
        "data",
        "data/deep",
        "absent",
        "data/absent",
        "outside",
        "fifo",
        "null",
        "../config.toml",
        "loop",
    ):
        assert not found.is_resource("app", wrong), wrong
    assert not found.is_resource("appendix", "c.txt")


@pytest.mark.parametrize(
    "path",
    [
        "../config.toml",
        "data/../../config.toml",
        "data/../data/a.txt",
        "/etc/passwd",
        "//etc/passwd",
        "./data/a.txt",
        "data//a.txt",
        "data/a.txt/",
        "..",
        ".",
        "",
        "data\\a.txt",
        "data/a.txt\0",
        "\udc80",
        "x" * 5000,
        "x" * 300,
        "data/" * 100 + "a",
        "outside",
        "outdir/c.txt",
        "null",
        "fifo",
        "dangling",
        "loop",
        "loop/x",
        "data",
        "empty.txt/x",
        "__pycache__/models.pyc",
        "inside/../../config.toml",
    ],
)
def test_s_09_paths_that_lead_elsewhere_are_refused(package, path):
    found = shared("app")
    assert found.resource("app", path) is None
    assert found.counters["hits"] == 0


def test_s_09_config_file_beside_the_package_is_out_of_reach(package, caplog):
    found = shared("app")
    assert found.resource("app", "../config.toml") is None
    assert "'app/../config.toml': refused: not a plain relative path" in caplog.text
    assert found.resource("appendix", "c.txt") is None
    assert found.resource("", "config.toml") is None
    assert found.resource("json", "__init__.py") is None


def test_resource_symlink_to_a_blocked_file_is_refused(package):
    (package / "app" / "alias.txt").symlink_to(package / "app" / "models.py")
    found = Finder(share=["app.*"], block=["app.models"])
    assert found.resource("app", "alias.txt") is None
    assert "alias.txt" not in dict(found.resource_names("app"))


# -- metadata ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def distributions(tree):
    tree(
        {
            "app/__init__.py": "",
            "My_App-1.5.dist-info/METADATA": "Metadata-Version: 2.1\nName: My-App\nVersion: 1.5\n\nText.\n",
            "My_App-1.5.dist-info/entry_points.txt": "[console_scripts]\nmine = app:main\n",
            "My_App-1.5.dist-info/RECORD": "app/__init__.py,,\nMy_App-1.5.dist-info/METADATA,,\n../../bin/mine,,\n",
            "ns/part/__init__.py": "",
            "ns_part-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: ns-part\nVersion: 1\n",
            "ns_part-1.dist-info/top_level.txt": "ns\n",
            "ns_part-1.dist-info/RECORD": "ns/part/__init__.py,,\n",
            "secret-2.dist-info/METADATA": "Metadata-Version: 2.1\nName: secret\nVersion: 2\n",
            "secret-2.dist-info/top_level.txt": "secretmod\n",
            "oldegg-3.egg-info/PKG-INFO": "Metadata-Version: 1.0\nName: oldegg\nVersion: 3\n",
            "oldegg-3.egg-info/top_level.txt": "oldegg\n",
            "oldegg.py": "",
            "secretmod.py": "",
        }
    )


def test_metadata_of_shared_distributions(distributions):
    found = shared("app")
    for name in ("My-App", "my_app", "MY.APP"):
        answer = found.metadata(name)
        assert set(answer) == {"METADATA", "entry_points.txt"}
        assert "Version: 1.5" in answer["METADATA"]
        assert "mine = app:main" in answer["entry_points.txt"]
    # contextree's own shows where it was installed from this checkout, which is on sys.path
    assert [name for name in found.distributions() if name != "contextree"] == ["My-App"]
    assert found.metadata("secret") is None
    assert found.metadata("ns-part") is None
    found.allow("ns.part")
    found.allow("oldegg")
    assert found.distributions() == ["My-App", "ns-part", "oldegg"]
    assert found.metadata("ns-part")["top_level.txt"] == "ns\n"
    assert "Version: 3" in found.metadata("oldegg")["METADATA"]
    assert found.metadata("absent") is None


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../secret", "/etc", "a/b", "My-App\0", "-", "a" * 200, "a\n", "*", "é"]
)
def test_metadata_of_odd_names(distributions, name):
    assert shared("app").metadata(name) is None
