"""Every playbook under stock and under ours, in both modes: the same results, the same files, the same words."""

import dataclasses

import pytest

from tests.ansible import compare, cores, masks
from tests.ansible.cases import CASES, TWO
from tests.ansible.plays import Outcome, play

pytestmark = [pytest.mark.ansible, pytest.mark.timeout(1200)]
EACH = [pytest.param(core, case, id="%s-%s" % (case.name, core)) for case in CASES for core in case.cores]


@pytest.mark.parametrize("core, case", EACH, indirect=["core"])
def test_same_as_stock(lab, core, case):
    def run(mode: str, pipelining: bool = True) -> Outcome:
        return play(lab, core, case.file, mode, hosts=case.hosts(lab, core.version), variables=case.variables(lab),
                    strategy=case.strategy, pipelining=pipelining, timeout=300, **case.play)

    stock = run("stock")
    check_stock(case, stock, core.version)
    plain = run("stock", pipelining=False) if case.plain else None
    found = []
    for mode in ("strategy",) if case.plain else ("connection", "strategy"):
        ours = run(mode, pipelining=not case.plain)
        if plain is not None:
            different = compare.from_either(stock, plain, ours)
        else:
            different = compare.differences(stock, ours, order=case.order, timed=case.timed)
        found += ["%s: %s" % (mode, line) for line in [*different, *check_ours(case, stock, ours)]]
    assert not found, "%d differences\n%s" % (len(found), "\n".join(line[:700] for line in found[:60]))


def check_stock(case, stock, version=cores.NEWEST):
    """The playbook does what it is for: it ran to its end, with as many results as it has."""
    assert stock.status == case.statuses.get(version, case.status), stock.stdout[-3000:] + stock.stderr[-3000:]
    assert len(stock.rows) >= case.rows, "%d results" % len(stock.rows)
    ends = [row for row in stock.rows if row["task"].startswith(case.end) or row["result"].get("msg") == case.end]
    assert ends, "it did not come to its end"


def check_ours(case, stock, ours):
    """Sentences: ours left nothing behind that stock does not, and was what ran the modules."""
    kinds = {masks.text(entry) for entry in stock.left} if case.leaves else set()
    found = ["left: %s" % entry for entry in ours.left if masks.text(entry) not in kinds]
    if ours.stats is None:
        return [*found, "it wrote no statistics"]
    if ours.stats.get("module", 0) < case.modules:
        found.append("only %d modules ran in our way: %r" % (ours.stats.get("module", 0), ours.stats))
    return found


@pytest.mark.parametrize("case", [each for each in CASES if each.name in ("modules", "said")],
                         ids=lambda each: each.name)
def test_stock_is_the_same_as_stock(lab, core, case):
    """What is masked is enough, so a difference of ours is one."""
    one, other = (play(lab, core, case.file, "stock", hosts=case.hosts(lab, core.version), timeout=300)
                  for _ in range(2))
    check_stock(case, one)
    assert compare.differences(one, other) == []


@pytest.mark.parametrize("core", cores.PYTHONS, indirect=True)
def test_s_36_what_a_target_says_is_no_template(lab, core):
    """Facts and results with templates in them are text afterwards, marked as in stock; nothing in them is done."""
    stock = play(lab, core, "unsafe.yml", "stock", hosts=TWO)
    assert stock.status == 0 and stock.rows[-1]["task"] == "the end of unsafe", stock.stdout + stock.stderr
    assert any("lookup('pipe'" in str(row["result"].get("msg")) for row in stock.rows)
    for mode in ("connection", "strategy"):
        ours = play(lab, core, "unsafe.yml", mode, hosts=TWO)
        assert compare.differences(stock, ours) == [], mode
        assert "canary" not in ours.made and ours.left == []
        assert ours.stats is not None and ours.stats["module"] >= 15


def test_differences_are_found(lab, core):
    """What is masked is little: a change of one value anywhere is told."""
    one = play(lab, core, "smoke.yml", "stock", hosts={"h1": {}})
    assert one.status == 0 and len(one.rows) == 7
    for path, change in {
        "rows": lambda rows: [dict(row, result=dict(row["result"], changed="other")) for row in rows],
        "made": lambda made: {**made, "h1/copied": ["-rw-r--r--", *made["h1/copied"][1:]]},
        "stdout": lambda text: text.replace("copied", "coqied").replace("ok=7", "ok=8"),
        "stderr": lambda text: text + "\n[WARNING]: unheard of\n",
        "recap": lambda recap: {"h1": dict(recap["h1"], changed=99)},
        "status": lambda status: status + 1,
    }.items():
        other = dataclasses.replace(one, **{path: change(getattr(one, path))})
        assert compare.differences(one, other), path
        assert not compare.differences(one, one)


def test_cached_facts(lab, core):
    """The second run knows from a file what the first has gathered."""
    rest = "gathering = smart\nfact_caching = jsonfile\nfact_caching_connection = %s" % (lab.run.parent / "facts")
    found = {}
    for mode in ("stock", "connection", "strategy"):
        lab.forget(lab.run.parent / "facts")
        runs = [play(lab, core, "cached.yml", mode, hosts={"h1": {}, "here": {}}, defaults=rest) for _ in range(2)]
        assert [run.status for run in runs] == [0, 0], runs[0].stdout + runs[1].stdout
        assert "not yet" in runs[0].stdout and "not yet" not in runs[1].stdout
        assert "Gathering" in runs[0].stdout and "Gathering" not in runs[1].stdout
        found[mode] = runs
    for mode in ("connection", "strategy"):
        for stock, ours in zip(found["stock"], found[mode], strict=True):
            assert compare.differences(stock, ours) == []
            assert ours.left == []


def test_newest_is_at_hand():
    """What is tested as the newest core is what the table calls so."""
    assert max(cores.PYTHONS, key=lambda version: tuple(map(int, version.split(".")))) == cores.NEWEST
