"""Our strategies do what core's do: one task's worker is the next one's, and nobody can tell."""

import pytest

from tests.ansible import compare, cores
from tests.ansible.plays import play

pytestmark = [pytest.mark.ansible, pytest.mark.timeout(540)]

LOCAL = {"ansible_connection": "local"}
HOSTS = {"here": {}, "h2": LOCAL, "h3": LOCAL}
@pytest.fixture(scope="module", autouse=True)
def server(lab):
    """Here from the first test on: it has a thread."""
    lab.materials()


EVERY = [cores.OLDEST, cores.MIDDLE, cores.NEWEST]


def same(lab, core, playbook, strategy="linear", **how):
    """Run a playbook both ways and hold them against each other; ours."""
    hosts = how.pop("hosts", HOSTS)
    stock = play(lab, core, playbook, "stock", hosts=hosts, strategy=strategy, timeout=200, **how)
    ours = play(lab, core, playbook, "strategy", hosts=hosts, strategy=strategy, timeout=200, **how)
    found = compare.differences(stock, ours, order=strategy == "linear")
    if strategy != "linear":  # under which heading a result is shown is chance
        found = [line for line in found if not line.startswith("stdout")]
    assert found == []
    assert ours.left == []
    return ours


@pytest.mark.parametrize("core", EVERY, indirect=True)
def test_what_tasks_leave_for_others(lab, core):
    ours = same(lab, core, "strategy/workers.yml")
    assert ours.rows
    assert ours.status == 2


@pytest.mark.parametrize("strategy", ["free", "host_pinned"])
def test_strategies_without_lockstep(lab, core, strategy):
    same(lab, core, "strategy/alone.yml", strategy=strategy, hosts={"here": {}, "h2": LOCAL})


def test_fewer_workers_than_hosts(lab, core):
    same(lab, core, "strategy/workers.yml", forks=2)


@pytest.mark.parametrize("core", EVERY, indirect=True)
def test_what_is_remembered_of_options_ends_with_them(lab, core):
    ours = same(lab, core, "strategy/options.yml", hosts={"h1": {}}, variables={"other_user": lab.sshd.noisy_user})
    names = [row["result"]["stdout"] for row in ours.rows if row["result"].get("cmd") == ["id", "-un"]]
    assert {*names} >= {lab.sshd.key_user, lab.sshd.noisy_user}
    assert not ours.stats["fallbacks"]


@pytest.mark.parametrize("core", EVERY, indirect=True)
def test_plugins_that_nobody_knows_have_a_process_of_their_own(lab, core):
    same(lab, core, "strategy/foreign.yml")


def pids(outcome):
    """The processes that did the tasks, of each host in turn."""
    found = {}
    for host, rows in outcome.by_host().items():
        found[host] = [row["result"].get("msg") or row["result"]["ansible_facts"]["pid"] for row in rows
                       if row["event"] == "v2_runner_on_ok" and "results" not in row["result"]]
    return found


@pytest.mark.parametrize("core", EVERY, indirect=True)
def test_workers_stay_under_our_strategy_and_not_under_cores(lab, core):
    ours = play(lab, core, "strategy/processes.yml", "strategy", hosts=HOSTS)
    assert (ours.status, ours.left) == (0, [])
    for mine in pids(ours).values():
        assert len(set(mine[:-3])) == 1
        assert len(set(mine[-3:])) == 3  # under core's linear each is forked


def test_worker_that_is_killed(lab, core):
    stock = play(lab, core, "strategy/killed.yml", "stock", hosts={"here": {}})
    ours = play(lab, core, "strategy/killed.yml", "strategy", hosts={"here": {}})
    assert "dead state" in stock.stderr
    assert compare.differences(stock, ours) == []
    assert ours.left == []
