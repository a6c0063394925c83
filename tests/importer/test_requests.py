"""How often a child asks, what crosses a link, and who looks up. A request is a round trip: so requests are counted."""

import random

SIXTY = {
    "big/__init__.py": "".join("from big import part%d\n" % number for number in range(30)) + "value = 'big'\n",
    **{"big/part%d.py" % number: "from big.low import part%d\n" % number for number in range(30)},
    "big/low/__init__.py": "",
    **{"big/low/part%d.py" % number: "def function():\n    return %d\n" % number for number in range(30)},
    "uses.py": "import big\ndef function():\n    return big.value\n",
    "late.py": "def function():\n    import big\n    return big.value\n",
}
COUNT = """
def asked(child):
    return child.call(probe.requests)
"""


def test_p_35_sixty_modules_near_cost_no_request(master):
    master(SIXTY, COUNT + """
import uses, late
for child in [router.local(python=alone())] + [router.local(python=alone(pythons[each])) for each in pythons]:
    before = asked(child)
    assert child.call(uses.function) == "big"
    assert asked(child) == before, "they were pushed with the call"
    assert child.call(late.function) == "big"
    assert asked(child) == before
    assert {1, 2} >= {form for name, form in child.call(probe.forms).items() if name.startswith("big")}
    code = child.facts["version"] == sys.version_info[:3]
    assert child.call(probe.forms)["big.part7"] == (2 if code else 1), "compiled where it can be"
""", "3.8", "3.12")


def test_p_35_sixty_modules_two_links_away_cost_one_request(master):
    """The first child of another Python too, and what was fetched once stays in between."""
    master(SIXTY, COUNT + """
import uses
for middle in router.local(python=alone()), router.local(python=alone(pythons["3.8"])):
    link = next(branch.link for branch in router.engine.children.values() if branch.id == middle.id)
    for python in alone(), alone(pythons["3.8"]), alone(), alone(pythons["3.8"]):
        far = router.local(via=middle, python=python)
        before = asked(far)
        root = requests(router)
        assert far.call(uses.function) == "big"
        assert asked(far) - before == 1
        assert requests(router) - root <= 1
    root = requests(router)
    sent = link.stats()["bytes_out"]
    for python in alone(), alone(pythons["3.8"]):
        far = router.local(via=middle, python=python)
        assert far.call(uses.function) == "big"
    assert requests(router) == root, "all of it was in between"
    assert link.stats()["bytes_out"] - sent < 20_000
""", "3.8")


def test_the_main_program_and_what_it_imports_cost_one_request_at_most(master):
    master(SIXTY, COUNT + """
for child in router.local(python=alone()), router.local(python=alone(pythons["3.8"])):
    before = asked(child)
    assert child.call(of_main) == "big"
    assert asked(child) - before <= 1
far = router.local(via=child, python=alone())
before = asked(far)
assert far.call(of_main) == "big"
assert asked(far) - before <= 2
""", "3.8", top="import uses\ndef of_main():\n    return uses.function()\n")


def test_more_than_is_pushed_costs_one_request(master):
    """Half a MiB goes ahead of the call; all that is missing then is asked for at once."""
    noise = random.Random(1)
    letters = "0123456789abcdefghijklmnopqrstuvwxyz"
    files = {"fat/__init__.py": "from fat import " + ", ".join("m%d" % number for number in range(8)) + "\nvalue = 1\n",
             **{"fat/m%d.py" % number: "# %s\n" % "".join(noise.choices(letters, k=200_000)) for number in range(8)},
             "uses.py": "import fat\ndef function():\n    return fat.value\n"}
    master(files, COUNT + """
import uses
child = router.local(python=alone(pythons["3.8"]))
before = asked(child)
assert child.call(uses.function) == 1
assert asked(child) - before == 1
""", "3.8")


def test_negative_answers_are_remembered_and_jython_is_not_asked_for(master):
    master({}, COUNT + """
child = router.local(python=alone(pythons["3.8"]))
child.call(probe.fails, "pickle"), child.call(probe.fails, "copy"), child.call(probe.fails, "subprocess")
before = asked(child)
for _ in range(5):
    child.call(probe.fails, "nobody"), child.call(probe.fails, "org.python.core"), child.call(probe.fails, "winreg")
assert asked(child) - before == 1
assert "org" not in child.call(probe.forms)
""", "3.8")


def test_who_looks_up_is_never_the_loop(master):
    master(SIXTY, """
import threading
seen = set()
find = router.finder.find
def spy(name):
    seen.add(threading.get_ident())
    return find(name)
router.finder.find = spy
import uses
far = router.local(via=router.local(python=alone()), python=alone(pythons["3.8"]))
assert far.call(uses.function) == "big"
assert seen and router.broker.thread not in seen
""", "3.8")


def test_children_on_this_disk_get_nothing_sent(master):
    master(SIXTY, """
import uses
for child in router.local(), router.fork(), router.fork(direct=True):
    assert child.call(uses.function) == "big"
    assert not [name for name in child.call(probe.from_parent) if not name.startswith("contextree")]
""")


def test_first_calls_at_once_find_the_whole_module(master):
    """Python 3.6 unpickles from a module that another thread is still importing (bpo-34572)."""
    slow = "import time\ntime.sleep(0.2)\ndef function():\n    return 42\n"
    master({"slow.py": slow}, """
import slow
for each in pythons:
    child = router.local(python=alone(pythons[each]), threads=4)
    assert {call.result(10) for call in [child.submit(slow.function) for _ in range(4)]} == {42}
""", "3.6", "3.7", "3.12")
