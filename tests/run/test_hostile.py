"""A far side that lies: clear errors here, and nobody else is harmed."""

import struct
import threading

import pytest

import contextree
from contextree.core import calls as core_calls
from contextree.core import process
from contextree.core.wire import values
from contextree.core.wire.frames import BULK, CALL, FIN, MORE, OPEN, RESET
from contextree.parent.pumps import BUDGET
from contextree.testing import ScriptedChild
from tests.lab.poll import until

S, X = b"S" + struct.pack("!I", 4711), b"X" + struct.pack("!i", 0)


class Run(threading.Thread):
    """``child.context.run`` on a thread; ``outcome`` is what became of it."""

    def __init__(self, child, **options):
        super().__init__()
        self.child = child
        self.options = options
        self.outcome = None
        self.start()
        self.opened = child.wait_for(OPEN, lambda frame: frame.payload[0] == CALL)

    def run(self):
        try:
            self.outcome = self.child.context.run(["anything"], **self.options)
        except Exception as error:
            self.outcome = error

    def say(self, data, flags=0):
        self.child.answer(self.opened, data, flags=flags, cls=BULK)

    def result(self):
        self.join(20)
        assert not self.is_alive()
        return self.outcome


@pytest.fixture
def hostile(router):
    with ScriptedChild(router, "hostile") as child:
        yield child
    until(lambda: not [info for info in router.engine.infos.values() if info.name == "hostile"], "its end")
    assert router.broker.stats()["errors"] == 0


def test_the_truth_is_believed(hostile):
    run = Run(hostile)
    for data in (S, b"Oout", b"Eerr", b"o", X, b"e"):
        run.say(data)
    run.say(b"D", FIN)
    assert vars(run.result()) == {"args": ["anything"], "returncode": 0, "stdout": b"out", "stderr": b"err"}


@pytest.mark.parametrize("said", [
    b"", b"?", b"S", S + b"x", b"X", b"X12345", b"C", b"C\0\0\0\1", b"C\xff\xff\xff\xff", b"O", b"o1", b"\0value",
    b"\1pickle", b"\2raw", b"I", b"Sxxxx", b"\5",
], ids=repr)
def test_nonsense_after_the_start_is_a_protocol_error(hostile, said):
    run = Run(hostile)
    run.say(S)
    run.say(said)
    error = run.result()
    assert isinstance(error, contextree.ProtocolError), error
    assert "hostile said what no program says" in str(error)
    hostile.wait_for(RESET, lambda frame: frame.channel == run.opened.channel)


def test_an_answer_as_of_a_call_is_none(hostile):
    run = Run(hostile)
    run.say(b"\0" + values.encode(5), FIN)
    assert isinstance(run.result(), contextree.ProtocolError)


def test_more_output_than_there_is_a_budget_for(hostile):
    """To a reader that does not read, by one who heeds the credit of the wire, but not the budget."""
    handles = []
    thread = threading.Thread(target=lambda: handles.append(hostile.context.popen(["anything"])))
    thread.start()
    opened = hostile.wait_for(OPEN, lambda frame: frame.payload[0] == CALL)
    hostile.answer(opened, S, flags=0)
    thread.join(10)
    session = handles[0]._session
    for number in range(1, BUDGET // 60000 + 10):
        hostile.answer(opened, b"O" + b"x" * 60000, flags=0, cls=BULK)
        until(lambda number=number: session.over or session.came[b"O"] >= number * 60000, "it to be taken in")
    assert session.over
    with pytest.raises(contextree.ProtocolError, match="more output than it may send"):
        handles[0].wait(10)


def test_an_error_record_of_a_stranger_is_plain_text(hostile):
    run = Run(hostile)
    record = ["os", "system", ["touch /tmp/x"], "text \x1b[31m", "trace", "hostile", None, {}]
    run.say(bytes([core_calls.ERROR]) + values.encode(record), FIN)
    error = run.result()
    assert type(error) is contextree.RemoteError
    assert "\x1b" not in str(error)


def test_an_end_without_a_status(hostile):
    run = Run(hostile)
    run.say(S)
    run.say(b"L" + b"\x1b[2J stolen \xff" + b"x" * 60000)
    run.say(b"D", FIN)
    error = run.result()
    assert isinstance(error, contextree.UncleanExit)
    assert "stolen" in str(error) and "\x1b" not in str(error) and len(str(error)) < 10000
    run = Run(hostile)
    run.say(S)
    run.say(b"D", FIN)
    assert isinstance(run.result(), contextree.UncleanExit)


def test_silence_ends_at_the_deadline(hostile, monkeypatch):
    monkeypatch.setattr("contextree.parent.command.PATIENCE", 0.3)
    for said in ((), (S,), (S, b"Osome")):
        run = Run(hostile, timeout=0.2, grace=0.1)
        for data in said:
            run.say(data)
        error = run.result()
        assert type(error).__name__ == "TimeoutExpired"
        assert error.stdout == (b"some" if len(said) == 2 else b"")
        hostile.wait_for(RESET, lambda frame, run=run: frame.channel == run.opened.channel)


def test_it_may_not_keep_on_talking_after_the_end(hostile):
    run = Run(hostile)
    run.say(S)
    run.say(b"D", FIN)
    run.result()
    run.say(b"Omore")
    waiter = process.Waiter()
    hostile.context.engine.broker.defer(waiter.wake)
    assert waiter.wait(10)


def test_a_message_that_never_ends(hostile, monkeypatch):
    monkeypatch.setattr("contextree.parent.command.PATIENCE", 0.3)
    run = Run(hostile, timeout=0.3, grace=0)
    run.say(S)
    run.say(b"O" + b"x" * 1000, MORE)
    assert type(run.result()).__name__ == "TimeoutExpired"
