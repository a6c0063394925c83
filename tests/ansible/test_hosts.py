"""The multiplexer's service with hosts that are hostile, slow, lost, or dropped while something runs there."""

import os
import threading
import time

import pytest

import contextree
from ansible_plugin.controller.hosts import Hosts, as_without_us
from ansible_plugin.controller.link import Link
from ansible_plugin.target import agent, warm
from contextree.connect import local
from tests.lab.poll import until

ECHO = [["command", None, ["echo", "x"]]]


@pytest.fixture
def service():
    """A Hosts, and the handle by which workers call it."""
    with contextree.Router() as router:
        hosts = Hosts(router)
        with router.serve("hosts", hosts, threads=20) as handle:
            yield hosts, handle


def link(name: str, **options: object) -> Link:
    return Link(name, local.plan(name=name, **options))  # type: ignore[arg-type]


def lie(answer: object) -> None:
    """Have the agent of this interpreter give that answer to everything."""
    agent.do = lambda steps: answer  # type: ignore[assignment]


def say_much() -> None:
    """Have little room for what programs say."""
    warm.LIMIT = 1 << 20


LIES = [None, "done", ("done",), 5, {"done": 1}, [b"done", 1, 2],
        ("failed", -1, 1, b"", b""), ("failed", 1, 1, b"", b""), ("failed", "0", 1, b"", b""),
        ("refused", 0), ("missing", 0, "0" * 64), ("missing", 10 ** 30, "x"),
        ("done", -1, ""), ("done", "1", "")]


def test_lies_are_errors_of_who_asked_and_of_nobody_else(service):
    """Whatever a target answers: who asked gets an error, and other hosts go on."""
    hosts, handle = service
    assert handle.call.do(link("honest"), ECHO)[1][:2] == (0, b"x\n")
    handle.call.do(link("liar"), ECHO)
    liar = hosts.links["liar"].result().context
    for answer in LIES:
        liar.call(lie, answer)
        with pytest.raises((contextree.PeerError, contextree.RemoteError)):
            handle.call.do(link("liar"), ECHO)
        assert handle.call.do(link("honest"), ECHO)[1][:2] == (0, b"x\n")


def test_a_host_that_is_slow_to_answer_holds_up_no_other(service):
    """Its link is being opened for as long as it takes, and others are used meanwhile."""
    _, handle = service
    slow = link("slow", python=["/bin/sh", "-c", "sleep 600", "sh"], connect_timeout=600)
    waiting = handle.submit.do(slow, ECHO)
    for number in range(3):
        assert handle.call.do(link("quick%d" % number), ECHO)[1][:2] == (0, b"x\n")
    assert not waiting.done()
    assert waiting.cancel()
    until(lambda: handle.stats()["unanswered"] == 0, "the request to be given up")


def test_a_link_that_is_dropped_lasts_for_what_runs_over_it(service, tmp_path):
    """``meta: reset_connection`` for one host's sake while another delegates to it; who comes later gets a new link."""
    hosts, handle = service
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    running = handle.submit.do(link("one"), [["command", None, ["cat", fifo]]])
    with open(fifo, "w") as file:  # as soon as it runs
        first = hosts.links["one"].result().context
        handle.call.drop(link("one"))
        assert handle.call.do(link("one"), ECHO)[1][:2] == (0, b"x\n")
        assert hosts.links["one"].result().context.pid != first.pid
        file.write("to its end")
    assert running.result(20)[1][:2] == (0, b"to its end")
    until(lambda: first.state == "died", "the first link to end")


def test_a_lost_link_is_opened_anew_and_what_was_sent_is_not_sent_again(service, tmp_path):
    """The request in which it was lost is an error; the next one finds another link."""
    _, handle = service
    path = tmp_path / "count"
    with pytest.raises(contextree.ContextDied):
        handle.call.do(link("lost"), [["command", None, ["sh", "-c", "echo x >> %s; kill -9 $PPID" % path]]])
    assert handle.call.do(link("lost"), ECHO)[1][:2] == (0, b"x\n")
    assert path.read_text() == "x\n"


def test_the_end_of_a_playbook_ends_what_runs(service, tmp_path):
    """Processes too that are no children of the agent's any more."""
    hosts, handle = service
    path = tmp_path / "pid"
    script = "sh -c 'echo $$ > %s.new; mv %s.new %s; exec sleep 600' & wait" % (path, path, path)
    running = handle.submit.do(link("one"), [["command", None, ["sh", "-c", script]]])
    until(path.exists, "it to run")
    hosts.end()
    with pytest.raises(contextree.ContextreeError):
        running.result(10)
    until(lambda: not os.path.exists("/proc/%s" % path.read_text().strip()), "it to end")


def test_a_program_that_says_too_much_has_failed(service):
    """It is killed; the status is that of one that was, and what it said is the reason."""
    hosts, handle = service
    handle.call.do(link("loud"), ECHO)
    hosts.links["loud"].result().context.call(say_much)
    for argv in (["yes"], ["sh", "-c", "yes | head -c 3000000"]):
        status, out, err = handle.call.do(link("loud"), [["command", None, argv]])[1]
        assert (status, out) == (137, b"")
        assert b"more than" in err
    assert handle.call.do(link("loud"), ECHO)[1][:2] == (0, b"x\n")


def test_programs_here_have_the_limit_of_files_that_there_was(service):
    """The multiplexer raises its own."""
    hosts, handle = service
    hosts.files = 300
    answer = handle.call.do(link("few"), [["command", None, ["sh", "-c", "ulimit -S -n"]]])
    assert answer[1][1] == b"300\n"
    far = Link("far", local.plan().copy(remote=True))
    assert as_without_us(far, 300) is far.plan


def test_programs_here_have_the_environment_of_who_asks(service):
    """Where that is told; not what the multiplexer has beside it."""
    os.environ["CTXT_ONLY_HERE"] = "1"
    try:
        _, handle = service
        environ = {"PATH": os.environ["PATH"], "CTXT_OWN": "two words"}
        show = [["command", None, ["sh", "-c", "echo $CTXT_OWN,$CTXT_ONLY_HERE"]]]
        assert handle.call.do(link("plain"), show)[1][1] == b",1\n"
        assert handle.call.do(link("own")._replace(environ=environ), show)[1][1] == b"two words,\n"
    finally:
        del os.environ["CTXT_ONLY_HERE"]


def test_many_hosts_at_once(service):
    """All are opened and asked at the same time; none waits for the others, and threads come only with requests."""
    hosts, handle = service
    links = [link("many%d" % number) for number in range(12)]
    begin = time.monotonic()
    futures = [handle.submit.do(each, [["command", None, ["sleep", "0.5"]]]) for each in links]
    assert all(future.result(60)[1][0] == 0 for future in futures)
    assert time.monotonic() - begin < 30
    assert hosts.statistics()["links"] == 12
    assert threading.active_count() < 40
