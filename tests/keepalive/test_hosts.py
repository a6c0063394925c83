"""Hosts behind networks: what breaks between them, and what those get who wait.

    master --- alpha --- beta          beta is behind alpha, and alpha's context is the parent of beta's
        \\----- gamma

P-01 to P-05, each when the wire is cut without a word, when the interpreter is killed, and when the host goes down; at
alpha and, where that is an indirect child, at beta.
"""

import os
import platform
import signal

import pytest

import contextree
from tests.keepalive import far
from tests.lab import processes
from tests.lab.network import NAMES, ip, sweep
from tests.lab.poll import until

SILENT = ("no sign of life for", "does not answer")  # we and ssh look: who is first says so
FAULTS = {
    "cut": lambda network, title, context: network.wires[title].cut(),
    "killed": lambda network, title, context: os.kill(context.pid, signal.SIGKILL),
    "down": lambda network, title, context: network.hosts[title].power_off(),
}


@pytest.fixture(autouse=True)
def line(request):
    """All hosts are up and all wires whole after each test."""
    yield
    request.getfixturevalue("network").restore()


def reach(router, network, title, **options):
    """A context at a host that the client reaches."""
    return router.ssh(title, ssh=network.ssh, ssh_config=network.ssh_config, **options)


def begin(router, function, *args):
    """Start a call that says when it runs; its future, once it does."""
    channel = router.channel()
    future = function(*args, channel)
    assert channel.receive(20) == "running"
    return future


def is_silent(text):
    return any(words in text for words in SILENT)


@pytest.fixture(scope="module", params=[(fault, title) for title in ("alpha", "beta") for fault in FAULTS],
                ids="-".join)
def broken(request, network):
    """{row: what its caller got} when a fault strikes a host in the middle of all their calls; the fault's name."""
    fault, title = request.param
    with contextree.Router(heartbeat=2, grace=1.0) as router:
        alpha, gamma = reach(router, network, "alpha"), reach(router, network, "gamma")
        beta = alpha.ssh("beta", ssh_config=network.ssh_config)
        target = {"alpha": alpha, "beta": beta}[title]
        below = beta if title == "alpha" else beta.fork()
        sibling = gamma if title == "alpha" else alpha.fork()
        cousin = gamma.fork()
        router.grant(sibling, target)
        router.grant(cousin, beta)
        assert [context.call(platform.node) for context in (alpha, beta, gamma)] == ["alpha", "beta", "gamma"]
        waits = {
            "P-01": begin(router, target.with_options(threads=9).submit, far.hang),
            "P-02": begin(router, below.with_options(threads=9).submit, far.hang),
            "P-03": begin(router, beta.with_options(threads=9).submit, far.hang),
            "P-04": begin(router, sibling.submit, far.hang_there, target),
            "P-05": begin(router, cousin.submit, far.hang_there, beta),
        }
        remote = [processes.identity(context.pid) for context in (target, below)]
        FAULTS[fault](network, title, target)
        got = {"fault": fault, "title": title, "names": {"P-01": target.name, "P-02": below.name, "P-03": beta.name}}
        for row, wait in waits.items():
            try:
                got[row] = wait.result(20)
            except contextree.ContextreeError as error:
                got[row] = type(error).__name__, str(error)
        got["states"] = target.state, below.state
        got["others"] = gamma.call(abs, -1), cousin.call(abs, -2), (alpha.call(abs, -3) if title == "beta" else 3)
        got["tree"] = router.tree()
        until(lambda: not any(map(processes.alive, remote)), "the processes on the other hosts to end", 20)
    network.restore()
    return got


def check(broken, row):
    kind, text = broken[row]
    assert kind == "ContextDied"
    if row in broken["names"]:
        assert text.startswith(broken["names"][row] + " ended")
    if broken["fault"] != "killed":
        assert is_silent(text), text
    else:
        assert "ended" in text and not is_silent(text), text


def test_p_01_a_call_in_flight_fails_when_its_target_dies(broken):
    check(broken, "P-01")


def test_p_02_likewise_when_an_intermediary_dies(broken):
    check(broken, "P-02")
    assert "ended with " in broken["P-02"][1]


def test_p_03_likewise_when_the_target_is_an_indirect_child(broken):
    check(broken, "P-03")


def test_p_04_likewise_when_the_caller_is_a_sibling(broken):
    check(broken, "P-04")


def test_p_05_likewise_when_caller_and_target_are_cousins(broken):
    check(broken, "P-05")


def test_the_rest_of_the_tree_goes_on(broken):
    assert broken["states"] == ("died", "died")
    assert broken["others"] == (1, 2, 3)
    for name in ("ssh.gamma", "ssh.gamma.fork"):
        assert name in broken["tree"]
    assert ("ssh.alpha " in broken["tree"]) == (broken["title"] == "beta") and "ssh.beta" not in broken["tree"]


def test_a_cut_that_is_short_enough_loses_nothing(router, network):
    """What was on its way is sent again by TCP: calls, a stream, a transfer; all arrive, once, in order."""
    patient = {"keepalive": 20, "heartbeat": 16}
    alpha = reach(router, network, "alpha", **patient).with_options(threads=9)
    beta = alpha.ssh("beta", ssh_config=network.ssh_config, **patient).with_options(threads=9)
    beats = [beat for beat in router.engine.heart.beats if beat.branch.id == alpha.id]
    gates = [context.channel() for context in (alpha, beta)]
    streams = [context.stream(far.numbers, gate) for context, gate in zip((alpha, beta), gates, strict=True)]
    assert [next(stream) for stream in streams] == [0, 0]
    network.cut()
    late = [context.submit(bytes.__add__, b"x" * 300_000, b"y") for context in (alpha, beta)]
    for gate in gates:
        gate.send("go on")
    until(lambda: beats[0].misses >= 1, "a look that finds nothing", 20)
    assert not any(future.done() for future in late)
    network.restore()
    for future in late:
        assert future.result(30) == b"x" * 300_000 + b"y"
    for stream in streams:
        assert [next(stream) for _ in range(5000)] == list(range(1, 5001))
        stream.close()


def test_a_connection_that_is_reset(router, network):
    alpha = reach(router, network, "alpha")
    beta = alpha.ssh("beta", ssh_config=network.ssh_config)
    waits = [begin(router, context.submit, far.hang) for context in (alpha, beta)]
    network.hosts["beta"].reset()
    assert type(waits[1].exception(20)) is contextree.ContextDied
    assert not waits[0].done() and beta.state == "died"
    network.hosts["alpha"].reset()
    assert type(waits[0].exception(20)) is contextree.ContextDied
    assert not is_silent(str(waits[0].exception()))


def test_a_session_that_is_stopped_behind_another(router, network):
    """The sshd of beta hangs; alpha finds out by itself, and tells."""
    alpha = reach(router, network, "alpha")
    beta = alpha.ssh("beta", ssh_config=network.ssh_config, keepalive=1000, heartbeat=2)
    waiting = begin(router, beta.submit, far.hang)
    session = network.hosts["beta"].session(beta)
    os.kill(session[0], signal.SIGSTOP)
    error = waiting.exception(20)
    assert type(error) is contextree.ContextDied and "no sign of life for" in str(error)
    assert alpha.call(abs, -1) == 1
    processes.end([session])


def test_packets_that_are_too_large_for_the_way(router, network):
    """A black hole: small packets pass, large ones vanish, and nobody is told."""
    alpha = reach(router, network, "alpha", keepalive=1000, heartbeat=2)
    network.wires["alpha"].swallow_large()
    assert alpha.ping(20) > 0
    lost = alpha.submit(len, bytes(1000))
    error = lost.exception(20)
    assert type(error) is contextree.ContextDied and "no sign of life for" in str(error)


def test_a_black_hole_in_the_key_exchange(router, network):
    """ssh itself would wait for long: its ConnectTimeout is over once TCP is connected."""
    network.wires["gamma"].swallow_large()
    with pytest.raises(contextree.ConnectTimeout, match=r"phase connect.* took more than 2 s"):
        reach(router, network, "gamma", connect_timeout=2, keepalive=1000)


def test_a_host_that_comes_back(router, network):
    alpha = reach(router, network, "alpha", heartbeat=2)
    network.hosts["alpha"].power_off()
    assert is_silent(str(alpha.wait(20)))
    with pytest.raises(contextree.ConnectTimeout):
        reach(router, network, "alpha", connect_timeout={"connect": 1})
    network.restore()
    again = reach(router, network, "alpha")
    assert again.call(platform.node) == "alpha" and again.name == alpha.name and again.id != alpha.id


def test_p_06_a_router_that_is_closed_meanwhile(network):
    """While the wire is cut: the end does not wait for those who do not answer."""
    with contextree.Router(grace=0.5) as router:
        alpha = reach(router, network, "alpha", keepalive=1000)
        waiting = begin(router, alpha.submit, far.hang)
        network.cut()
        router.close()
        assert isinstance(waiting.exception(20), (contextree.ContextDied, contextree.Closed))


def test_what_a_killed_run_left_is_removed(network):
    ip("netns", "add", "ctxt-gone-0000-client")
    sweep()
    left = {path.name for path in NAMES.iterdir()}
    assert "ctxt-gone-0000-client" not in left and network.client.name in left
