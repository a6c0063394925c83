"""``contextree.gather``: one function in many contexts, bounded, in order, with errors beside results, and Ctrl-C."""

import os
import pickle
import pty
import signal
import subprocess
import sys
import threading

import pytest

import contextree
from tests.executor import functions as f
from tests.executor.conftest import lines
from tests.lab.poll import until


@pytest.fixture
def many(router):
    return [router.fork() for _ in range(8)]


def test_results_of_all_contexts(many):
    results = contextree.gather(many, f.pid)
    assert dict(results) == {context: context.pid for context in many} == results.ok and results.errors == {}
    assert results.raise_errors() is results
    assert contextree.gather(many, f.add, 1, second=5).ok == dict.fromkeys(many, 6)
    assert contextree.gather([], f.pid) == {}


def test_in_order_of_arrival_or_of_contexts(many, tmp_path):
    """The first context answers last: it waits for what the last one does."""
    path = str(tmp_path / "gate")
    own = {many[0]: (f.hold, path), **dict.fromkeys(many[1:], (f.pid,))}
    seen = []

    def note(outcome):
        seen.append(outcome.context)
        if len(seen) % 8 == 7:
            f.note(path)
        elif len(seen) % 8 == 0:
            os.unlink(path)

    assert list(contextree.gather(own, f.apply, ordered=True, progress=note)) == many
    assert list(contextree.gather(own, f.apply, progress=note))[-1] == many[0]
    assert [outcome.context for outcome in contextree.gather_iter(own, f.apply, progress=note)][-1] == many[0]
    assert [outcome.context for outcome in contextree.gather_iter(own, f.apply, ordered=True, progress=note)] == many
    assert seen[7::8] == [many[0]] * 4


def test_errors_stand_beside_results(many):
    many[2].kill()
    own = {context: (number,) for number, context in enumerate(many)}
    results = contextree.gather(own, f.no_odd_ones)
    assert len(results) == 8 and set(results.ok.values()) == {0, 4, 6}
    assert {context.name: type(error) for context, error in results.errors.items()} == {
        many[2].name: contextree.ContextDied, **{many[number].name: ValueError for number in (1, 3, 5, 7)}}
    assert results[many[1]] is results.errors[many[1]]
    with pytest.raises(contextree.GatherError, match="no_odd_ones failed in 5 of 8 contexts: ") as caught:
        results.raise_errors()
    assert caught.value.errors == results.errors and set(caught.value.exceptions) == set(results.errors.values())
    if sys.version_info >= (3, 11):
        died, rest = caught.value.split(contextree.ContextDied)
        assert list(died.errors) == [many[2]] and len(rest.exceptions) == 4
    twin = pickle.loads(pickle.dumps(contextree.GatherError("text", [ValueError(1)])))
    assert (twin.message, twin.exceptions[0].args) == ("text", (1,))


def test_an_exception_that_is_returned_is_a_result(many):
    results = contextree.gather(many[:2], ValueError, "no error")
    assert results.errors == {} and [type(value) for value in results.ok.values()] == [ValueError, ValueError]


def test_not_more_at_once_than_said_and_contexts_are_taken_when_it_is_their_turn(router, tmp_path):
    """Nine contexts, made one by one as there is room for their call: never more than three calls are under way."""
    made = []
    ended = []

    def contexts():
        for number in range(9):
            assert number - len(ended) <= 3  # the one that has just ended is told of after
            made.append(router.fork(wait=False))
            yield made[-1]

    for outcome in contextree.gather_iter(contexts(), f.pid, concurrency=3, progress=ended.append):
        assert outcome.result() == outcome.context.pid and len(made) <= len(ended) + 3
    assert len(ended) == 9


def test_no_thread_for_a_context(many, tmp_path):
    contextree.gather(many, f.pid)
    before = len(sys._current_frames())
    outcomes = contextree.gather_iter({context: (str(tmp_path / "gate"),) for context in many}, f.hold)
    got = []
    taker = threading.Thread(target=lambda: got.extend(outcomes))
    taker.start()
    until(lambda: len(lines(tmp_path / "gate.started")) == 8, "all to run")
    assert len(sys._current_frames()) == before + 1
    (tmp_path / "gate").touch()
    taker.join(20)
    assert len(got) == 8


def test_a_slow_one_is_left_alone_after_its_time(many, tmp_path, gate):
    results = contextree.gather({many[0]: (f.hold, str(gate)), many[1]: (f.pid,)}, f.apply, timeout=0.3)
    assert type(results[many[0]]) is contextree.CallTimeout and results[many[1]] == many[1].pid


def test_what_is_closed_early_is_cancelled(many, gate, tmp_path):
    outcomes = contextree.gather_iter({many[0]: (f.pid,), many[1]: (f.until_told, str(tmp_path / "told"))}, f.apply,
                                      concurrency=2)
    assert next(outcomes).context == many[0]
    until((tmp_path / "told.started").exists, "the other one to run")
    outcomes.close()
    until((tmp_path / "told").exists, "the function to be told")


def test_wrong_arguments(many):
    with pytest.raises(contextree.UsageError, match="wants contexts, not 'web1'"):
        contextree.gather(["web1"], f.pid)
    with pytest.raises(contextree.UsageError, match="there twice"):
        contextree.gather([many[0], many[0]], f.pid)
    with pytest.raises(contextree.UsageError, match="wants contexts and a function"):
        contextree.gather(many, "uptime")
    with pytest.raises(ValueError, match="concurrency"):
        contextree.gather(many, f.pid, concurrency=0)
    results = contextree.gather(many[:2], f.add, threading.Lock())
    assert [type(error) for error in results.errors.values()] == [contextree.NotSendable] * 2


PROGRAM = """
import sys, contextree
from tests.executor import functions as f
with contextree.Router() as router:
    contexts = [router.fork() for _ in range(5)]
    own = {contexts[0]: (f.pid,), **{context: (f.until_told, sys.argv[1]) for context in contexts[1:]}}
    try:
        contextree.gather(own, f.apply, concurrency=3, progress=True)
    except KeyboardInterrupt as interrupt:
        print("interrupted:", interrupt.running, list(interrupt.results) == contexts[:1])
        raise
"""


def test_ctrl_c_ends_it_and_says_where_it_ran(tmp_path):
    told = tmp_path / "told"
    program = subprocess.Popen([sys.executable, "-c", PROGRAM, str(told)], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    until(lambda: len(lines(tmp_path / "told.started")) == 3 or program.poll() is not None, "three to run", 30)
    program.send_signal(signal.SIGINT)
    out, errors = program.communicate(timeout=30)
    assert out.startswith("interrupted: ['fork.2', 'fork.3', 'fork.4'] True"), out + errors
    if sys.version_info >= (3, 11):
        assert ("apply had ended in 1 contexts, runs in fork.2, fork.3, fork.4 (all were told to stop), "
                "was not begun in 1") in errors
    assert program.returncode == -signal.SIGINT and "leaked" not in errors
    assert lines(told) == ["told"] * 3 and len(lines(tmp_path / "told.started")) == 3


BAR = """
import contextree
with contextree.Router() as router:
    contexts = [router.fork() for _ in range(3)]
    contextree.gather(contexts, len, "four", progress=True)
"""


def test_a_bar_on_a_terminal_and_nothing_elsewhere():
    done = subprocess.run([sys.executable, "-c", BAR], capture_output=True, timeout=50, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
    master, slave = pty.openpty()
    env = dict(os.environ, TERM="xterm", COLUMNS="120")
    program = subprocess.Popen([sys.executable, "-c", BAR], stdout=subprocess.PIPE, stderr=slave, env=env)
    os.close(slave)
    seen = b""
    try:
        while True:
            part = os.read(master, 65536)
            seen += part
    except OSError:  # the other end is gone
        pass
    os.close(master)
    assert program.communicate(timeout=30)[0] == b"" and program.returncode == 0
    assert b"len" in seen and b"3/3" in seen
