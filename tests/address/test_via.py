"""Children of other contexts: what they cost in round trips, many at once, and how failures behind a hop look."""

import os
import shlex
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import contextree
from contextree.connect import ssh
from contextree.connect.local import plan as local_plan
from contextree.master import ahead
from contextree.parent.template import fork_plan
from tests.address import far
from tests.lab.poll import until


@pytest.fixture
def asked(router, monkeypatch):
    """What contexts ask the root for: modules, and ids."""
    found = []
    modules, ids = router.engine.lookup, router.engine.grant_ids
    monkeypatch.setattr(router.engine, "lookup", lambda names, magic: found.append(names) or modules(names, magic))
    monkeypatch.setattr(router.engine, "grant_ids", lambda *args: found.append("ids") or ids(*args))
    return found


def refused(router, via):
    with pytest.raises(contextree.ConnectError, match="connection refused") as caught:
        router.ssh("127.0.0.1", port=1, password="x", ssh_config="/dev/null", via=via)
    return caught.value


@pytest.mark.parametrize("python", [None, sys.executable])
def test_the_first_child_of_a_context_costs_no_question(router, asked, python):
    """It was 36 round trips once: one for each module, and one for ids."""
    for grow in (lambda via: via.local(), lambda via: via.fork(), lambda via: refused(router, via)):
        web = router.local(python=python)
        below = web.fork()
        del asked[:]
        grow(web)
        grow(below)
        grow(web)
        assert asked == []
        assert web.call(far.requests) == 0
        assert below.call(far.requests) <= 3, "of its parent, which has it all: once for each kind of plan"


def test_what_goes_ahead_is_what_is_needed(router):
    """No module that is asked for is missing, and none goes that is never imported."""
    plans = [local_plan(), fork_plan(), ssh.plan("127.0.0.1", port=1, password="x", ssh_config="/dev/null")]
    for plan in plans:
        web = router.local(python=sys.executable)
        try:
            router.grow(plan, via=web)
        except contextree.ConnectError:
            pass
        imported = set(web.call(far.imported))
        sent = ahead.names(plan)
        assert imported - sent - {"contextree.parent.door", "contextree.parent.router"} == set(), plan
        assert sent - imported <= {"contextree.parent.fork", "contextree.parent.linkwatch"}, "these run elsewhere"


def test_twenty_at_once_behind_one_host_overlap(router, sshd, tmp_path):
    """Each waits, as it starts, until all of them have: one after the other they would wait for ever."""
    web = router.ssh("key", ssh_config=sshd.ssh_config, user="root")
    wait = "echo >%s/$$; while [ $(ls %s | wc -l) -lt 20 ]; do sleep 0.1; done; exec %s \"$@\"" % (
        tmp_path, tmp_path, shlex.quote(sys.executable))
    with ThreadPoolExecutor(20) as pool:
        below = list(pool.map(lambda number: router.local(python=["sh", "-c", wait, "sh"], via=web, name="n%d" % number,
                                                          connect_timeout=50), range(20)))
    assert len({context.call(os.getppid) for context in below} | {web.pid}) == 1


def test_failures_behind_a_hop_name_it(router):
    web = router.local(name="web")
    for python, phase, said in (
            ("/no/such", "start", "cannot start /no/such: No such file"),
            (["sh", "-c", "echo the last words; exit 3"], "boot", "the last words"),
            (["sh", "-c", "exec sleep 600"], "connect", "it took more than 0.4 s")):
        with pytest.raises(contextree.ConnectError) as caught:
            router.local(python=python, via=web, connect_timeout={"connect": 0.4}, name="x")
        error = caught.value
        assert (error.context, error.via, error.phase) == ("web.x", "web", phase)
        assert str(error).startswith("web.x, from web, phase %s: " % phase)
        assert said in str(error)
    assert [context.name for context in router.contexts] == ["web"]


def test_a_lost_hop_is_told_to_who_connects_through_it(router):
    web = router.local(name="web")
    with ThreadPoolExecutor(1) as pool:
        failed = pool.submit(router.local, python=["sh", "-c", "cat >/dev/null; exit 1"], via=web)
        until(lambda: len(router.contexts) == 2, "it to begin")
        os.kill(web.pid, signal.SIGKILL)
        error = failed.exception(10)
    assert type(error) is contextree.ContextDied and error.context == "web"
