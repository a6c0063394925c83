"""Modules of the master in children that have nothing of it: what is imported, what is refused, how it looks."""

import importlib.machinery

PACKAGE = {
    "app/__init__.py": "from . import one\nvalue = 'app'\n",
    "app/one.py": "from .sub.deep import value as deep\nfrom app.sub import two\nvalue = deep + 1\n",
    "app/sub/__init__.py": "",
    "app/sub/deep.py": "value = 1\n",
    "app/sub/two.py": "import app.one\nfrom ..sub import deep\nvalue = 2\n",
    "app/empty.py": "",
    "space/part/__init__.py": "value = 'in a namespace'\n",
    "space/lone.py": "value = 'alone'\n",
    "single.py": "value = 'single'\n",
}
CHILDREN = """\
children = [router.local(python=alone())] + [router.local(python=alone(pythons[each])) for each in pythons]
children.append(router.local(via=children[-1], python=alone()))
"""


def test_packages_namespaces_and_what_is_relative_or_empty(master, tmp_path):
    master(PACKAGE, CHILDREN + """
for name in "app", "space.part", "space.lone", "single":
    router.finder.allow(name)
for child in children:
    assert child.call(probe.load, "app") == ("master:app/__init__.py", "app")
    assert child.call(probe.load, "app.one") == ("master:app/one.py", 2)
    assert child.call(probe.load, "app.sub.two")[1] == 2
    assert child.call(probe.load, "app.empty") == ("master:app/empty.py", None)
    assert child.call(probe.load, "space.part")[1] == "in a namespace"
    assert child.call(probe.load, "space.lone")[1] == "alone"
    assert child.call(probe.load, "single")[1] == "single"
""", "3.6", "3.12")
    assert not list(tmp_path.rglob("*.pyc")), "no file was written"


def test_p_33_refusals_say_why(master):
    native = "app/native" + importlib.machinery.EXTENSION_SUFFIXES[0]
    files = {"secret.py": "def function():\n    return 1\n", "app/__init__.py": "", "app/broken.py": "1 +",
             native: b"\x7fELF"}
    master(files, """
        router.finder.allow("app")
        for child in (router.local(python=alone()), router.local(python=alone(pythons["3.8"]))):
            assert "native extension" in child.call(probe.fails, "app.native")
            assert "missing" in child.call(probe.fails, "app.nothing")
            assert "share=['secret.*']" in child.call(probe.fails, "secret"), child.call(probe.fails, "secret")
            assert "does not have 'nobody' either" in child.call(probe.fails, "nobody")
            assert child.call(importlib.util.find_spec, "nobody") is None, "who asks politely gets None"
            assert "it was imported" == child.call(probe.fails, "json.tool")
            try:
                child.call(importlib.import_module, "app.broken")
            except SyntaxError as error:
                assert error.filename == "master:app/broken.py"
            else:
                raise AssertionError
        # granted later, though it was refused before: there, and in the context between
        import secret
        below = router.local(via=child, python=alone())
        assert "share=" in below.call(probe.fails, "secret")
        assert below.call(secret.function) == 1
        """, "3.8")  # fmt: skip


def test_p_30_modules_that_are_not_what_they_seem(master):
    files = {
        "changing.py": "import sys, types\nnew = types.ModuleType('changing')\nnew.value = 'replaced'\n"
                       "sys.modules[__name__] = new\n",
        "turning/__init__.py": "import sys\nfrom . import other\nsys.modules[__name__] = other\n",
        "turning/other.py": "value = 'a module now'\n",
        "posing.py": "import sys, os.path\nsys.modules[__name__] = os.path\n",
        "uses.py": "import changing, turning, posing\nvalue = changing.value + turning.value + posing.join('a', 'b')\n",
    }
    master(files, """
        import uses
        router.finder.allow("uses")
        for child in router.local(python=alone()), router.local(python=alone(pythons["3.8"])):
            assert child.call(probe.load, "uses")[1] == "replaceda module nowa/b"
        """, "3.8")


def test_p_34_odd_names_are_not_served(master):
    master({"app/__init__.py": ""}, """
        router.finder.allow("app")
        child = router.local(python=alone())
        for name in "app.", "app..x", "app/x":
            assert child.call(probe.fails, name) != "it was imported"
        assert not [name for name, form in child.call(probe.forms).items() if form and name.startswith("app.")]
        """)


def test_p_36_the_standard_library_is_the_targets_own(master):
    files = {"colorsys.py": "value = 'of the master'\n",
             "uses.py": "import colorsys\nvalue = hasattr(colorsys, 'rgb_to_hsv')\n"}
    master(files, """
        router.finder.allow("uses"), router.finder.allow("colorsys")
        for child in router.local(python=alone()), router.local(python=alone(pythons["3.8"])):
            assert child.call(probe.load, "uses")[1] is True
            for name in "json", "asyncio", "msvcrt", "distutils", "imp", "xml.dom":
                child.call(probe.fails, name)
            sent = child.call(probe.from_parent)
            assert not [name for name in sent if name.partition(".")[0] not in ("contextree", "tests", "uses")], sent
        """, "3.8")


def test_p_37_overrides_and_modifiers_reach_every_child(master):
    master({"app/__init__.py": "", "app/conf.py": "value = 'file'\n", "app/other.py": "value = 'file'\n"}, """
        router.finder.allow("app")
        router.finder.override("app.conf", "value = 'override'\\n")
        router.finder.modify("app.other", lambda source: source.replace("file", "modified"))
        import app.conf, app.other
        near = router.local(python=alone())
        far = router.local(via=router.local(via=near, python=alone(pythons["3.8"])), python=alone())
        for child in near, far:
            assert child.call(probe.load, "app.conf")[1] == "override"
            assert child.call(probe.load, "app.other")[1] == "modified"
        """, "3.8")


def test_sources_show_in_tracebacks_and_inspect(master):
    master({"app.py": "def fail():\n    value = 1\n    raise LookupError(value)  # here\n"}, """
        router.finder.allow("app")
        near = router.local(python=alone())
        other = router.local(via=near, python=alone(pythons["3.8"]))
        far = router.local(via=other, python=alone())
        for child in near, other, far, router.local(), router.fork():
            assert child.call(probe.source, "app", "fail").startswith("def fail():\\n    value = 1")
            assert "raise LookupError(value)  # here" in child.call(probe.trace, "app", "fail")
        """, "3.8")


def test_many_threads_and_circles(master):
    files = {"app/__init__.py": "".join("from . import m%d\n" % number for number in range(20)) + "value = 'whole'\n",
             **{"app/m%d.py" % number: "import app\nfrom . import m%d\n" % ((number + 1) % 20) for number in range(20)}}
    master(files, """
        router.finder.allow("app")
        for child in router.local(python=alone()), router.local(python=alone(pythons["3.8"])):
            found = child.call(probe.at_once, "app", 8)
            assert len(found) == 8 and len(set(found)) == 1 and type(found[0]) is int, found
            assert child.call(probe.load, "app")[1] == "whole"
        """, "3.8")


def test_a_finder_that_came_later_is_asked_too(master):
    """Ours raises, to say why a module cannot be had, only while it is the last: ``tlz`` brings a finder of its own."""
    master({}, """
        for child in router.local(), router.fork():
            assert child.call(probe.with_a_finder_behind_ours) == "found by the last one"
        """)
