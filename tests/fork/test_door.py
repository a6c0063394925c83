"""``import contextree`` in every context: the same interface, the same names."""

import subprocess
import sys

import pytest

import contextree
from contextree.core import first_stage
from contextree.parent import door
from tests.fork import api_suite, far
from tests.lab import pythons as lab

OLDEST = next(python for python in lab.one_each().values() if python.minor != "2.7")
ROOT_ONLY = {"Executor", "WorkerDied", "GatherError", "Outcome", "Results", "gather", "gather_iter"}  # of masters


@pytest.fixture(scope="module")
def tree():
    """A router and a context of each kind, one on the oldest Python that is here, two of them two levels down."""
    with contextree.Router(grace=1.0) as router:
        fork, local, direct = router.fork(), router.local(), router.fork(direct=True)
        contexts = {"fork": fork, "local": local, "direct": direct, "local.fork": local.fork(),
                    "old": router.local(python=OLDEST.argv[0]),
                    "fork.direct": router.context_by_id(fork.call(far.grow, "direct")[0])}
        yield router, contexts


@pytest.mark.leaks("the tree of the module, whose contexts start templates and service threads when they are needed")
@pytest.mark.parametrize("where", ["root", "fork", "local", "direct", "local.fork", "fork.direct", "old"])
@pytest.mark.parametrize("what", api_suite.EVERY)
def test_mt_12_the_same_interface_everywhere(tree, where, what):
    router, contexts = tree
    if where == "root":
        getattr(api_suite, what)(router)
        return
    context = contexts[where].with_options(timeout=50)
    assert context.call(api_suite.run, what, context.name) == []


def test_the_door_of_children_has_every_public_name():
    """What the root's package exports, children export as the same thing; a new name needs a decision."""
    assert set(door.__all__) == set(contextree.__all__) - ROOT_ONLY
    for name in set(door.__all__) - {"Router"}:
        assert getattr(door, name) is getattr(contextree, name)


@pytest.mark.leaks("the tree of the module")
def test_names_in_a_child(tree):
    _, contexts = tree
    sentence = "a child context has a router already: contextree.current_router()"
    for where, context in contexts.items():  # a direct fork of the root has the root's package
        expected = "" if where == "direct" else sentence
        assert context.call(far.door) == [expected, "AttributeError", True]


def test_the_stub_is_lazy_and_polite():
    """Nothing is loaded before a name is asked for; private names are not asked for at all."""
    text = first_stage.STAGE.split("load(raw)\n")[0]
    text = text.replace("raw=read(", "raw=(lambda n: b'')(").replace("read(4)", "b''")
    script = ("import sys\n" + text.replace("os.write(1", "(lambda *a: 0)(1") + "\nimport zlib\n"
              "load(zlib.compress(marshal.dumps([])))\nimport contextree\n"
              "print([hasattr(contextree, name) for name in ('__file__', '_x', '__wrapped__')])\n"
              "print('contextree.parent' in sys.modules)\n"
              "try:\n    contextree.Router\nexcept ImportError as error:\n    print('asked')\n")
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True)
    assert done.stdout == "[False, False, False]\nFalse\nasked\n", done
