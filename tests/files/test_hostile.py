"""S-30, S-31, P-66: a context whose every byte the test chooses, at the other end of get, put, copy_to and put_all.

What a sink refuses is in ``test_sink``; here it is shown that nothing else comes in through the wire."""

import os
import threading
from concurrent import futures

import pytest

import contextree
from contextree.core.wire import values
from contextree.core.wire.frames import BULK, CALL, FIN, MORE, OPEN, RAW, RESET
from contextree.testing import ScriptedChild
from tests.files.test_sink import FOLDER, HOSTILE, digest, small
from tests.files.tools import census

MB = 1 << 20


def in_background(function, *args, **options):
    future = futures.Future()

    def run():
        try:
            future.set_result(function(*args, **options))
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    future.thread = thread
    return future


def over(future):
    """What a call in the background raised, or returned."""
    error = future.exception(20)
    future.thread.join()
    return error if error is not None else future.result()


@pytest.fixture
def hostile(tree):
    """A scripted context."""
    with ScriptedChild(tree, "hostile") as child:
        yield child


def opened(child):
    """The next call that comes."""
    return child.wait_for(OPEN, lambda frame: frame.payload[0] == CALL)


def say(child, call, message, fin=False):
    """Send a message of a transfer as a context would, or one that is no value."""
    flags = FIN if fin else 0
    if type(message) is bytes:
        for start in range(0, len(message) or 1, 60000):
            last = start + 60000 >= len(message)
            child.answer(call, message[start:start + 60000], flags=RAW | flags if last else MORE, cls=BULK)
    else:
        child.answer(call, b"\0" + values.encode(message), flags=flags)


PLAIN = [name for name in HOSTILE if name not in ("a message as long as memory", "twice", "another end",
                                                  "data after a file", "below the file that it is")]


@pytest.mark.parametrize("name", PLAIN)
def test_s_31_p_66_get_puts_nothing_where_a_hostile_context_says(tree, hostile, tmp_path, name):
    (tmp_path / "x").write_text("precious")
    before = census(tmp_path)
    got = in_background(hostile.context.get, "/whatever", tmp_path / "target")
    call = opened(hostile)
    for message in HOSTILE[name]:
        say(hostile, call, message)
    error = over(got)
    assert isinstance(error, (contextree.ProtocolError, NotADirectoryError)), error
    hostile.wait_for(RESET, lambda frame: frame.channel == call.channel)
    assert census(tmp_path) == before


def test_s_31_what_a_context_names_is_below_the_destination_alone(tree, hostile, tmp_path):
    got = in_background(hostile.context.get, "/whatever", tmp_path / "target")
    call = opened(hostile)
    for message in [FOLDER, small([b"etc"]), {"is": "end"}]:
        say(hostile, call, message, message == {"is": "end"})
    assert over(got) == (1, 1, 0)
    assert census(tmp_path) == {"target": None, "target/etc": b"x"}


@pytest.mark.parametrize("messages", [
    [{"is": "file", "path": [], "size": 10 * MB}],
    [{"is": "file", "path": [], "size": None}, *[b"x" * 60_000] * 2],
    [{"is": "file", "path": [], "size": None}, 1 << 60],
    [FOLDER, *[small([b"%05d" % number], b"x" * 60_000) for number in range(3)]],
], ids=["announced", "not announced", "a hole", "many files"])
def test_s_30_s_31_a_limit_holds_whatever_a_context_sends(tree, hostile, tmp_path, messages):
    got = in_background(hostile.context.get, "/whatever", tmp_path / "target", max_size=100_000)
    call = opened(hostile)
    for message in messages:
        say(hostile, call, message)
    assert isinstance(over(got), contextree.TransferError)
    assert census(tmp_path) == {}


def test_s_30_read_bytes_has_a_limit_of_its_own(tree, hostile):
    got = in_background(hostile.context.read_bytes, "/whatever")
    call = opened(hostile)
    say(hostile, call, {"is": "file", "path": [], "size": (1 << 30) + 1})
    assert isinstance(over(got), contextree.TransferError)


@pytest.mark.parametrize("target", [b"/etc", b"../..", b"a/../../.."])
def test_s_31_a_link_that_leads_out_is_refused_and_what_follows_goes_nowhere(tree, hostile, tmp_path, target):
    got = in_background(hostile.context.get, "/whatever", tmp_path / "target")
    call = opened(hostile)
    for message in [FOLDER, {"is": "link", "path": [b"a"], "target": target}, small([b"a", b"canary"])]:
        say(hostile, call, message)
    assert isinstance(over(got), contextree.TransferError)
    assert census(tmp_path) == {}
    got = in_background(hostile.context.get, "/whatever", tmp_path / "target", links="all")
    call = opened(hostile)
    for message in [FOLDER, {"is": "link", "path": [b"a"], "target": target}, small([b"a", b"canary"])]:
        say(hostile, call, message)
    assert isinstance(over(got), contextree.ProtocolError)
    assert census(tmp_path) == {} and not os.path.exists("/etc/canary")


def test_a_pickle_is_not_read(tree, hostile, tmp_path):
    """Form 1 is a pickle: of a context that is not trusted it is an error before a byte of it is looked at."""
    got = in_background(hostile.context.get, "/whatever", tmp_path / "target")
    call = opened(hostile)
    hostile.answer(call, b"\1cposix\nsystem\n(S'touch %s/canary'\ntR." % os.fsencode(tmp_path))
    assert isinstance(over(got), contextree.ProtocolError)
    assert census(tmp_path) == {}


@pytest.mark.leaks("the thread that writes the log of what it did")
def test_more_than_it_has_credit_for_ends_the_transfer(tree, hostile, tmp_path):
    """A file object that takes nothing: what is in memory here is bound by what was granted."""
    gate = threading.Event()

    class Stuck:
        def write(self, data):
            gate.wait(20)

    got = in_background(hostile.context.get, "/whatever", Stuck())
    call = opened(hostile)
    say(hostile, call, {"is": "file", "path": [], "size": None})
    for _ in range(100):
        say(hostile, call, b"x" * 60_000)
    hostile.wait_for(RESET, lambda frame: frame.channel == call.channel)
    gate.set()
    assert isinstance(over(got), contextree.ContextreeError)


@pytest.mark.parametrize("first", [b"\0" + values.encode("ready"), b"\0" + values.encode(["ready"]), b"\0\xff", b"",
                                   b"\0" + values.encode(["ready", [1 << 200, b"x"]]),
                                   b"\0" + values.encode(["ready", ["x", 5]]), b"\4junk"], ids=repr)
def test_put_to_a_context_that_answers_nonsense_is_an_error(tree, hostile, tmp_path, first):
    (tmp_path / "file").write_bytes(bytes(MB))
    done = in_background(hostile.context.put, tmp_path / "file", "/whatever", resume=True)
    call = opened(hostile)
    hostile.answer(call, first, flags=FIN)
    assert isinstance(over(done), contextree.ContextreeError)


@pytest.mark.parametrize("answer", [[1, 2], ["x", "y", "z"], None, {"a": 1}, [1, 2, 3, 4], -1], ids=repr)
def test_put_with_a_result_that_is_none_is_an_error(tree, hostile, answer):
    done = in_background(hostile.context.put, b"x", "/whatever")
    call = opened(hostile)
    say(hostile, call, answer, True)
    assert isinstance(over(done), contextree.ProtocolError)
    done = in_background(contextree.put_all, [hostile.context], b"x", "/whatever")
    call = opened(hostile)
    say(hostile, call, ["ready", [0, b""]])
    hostile.receive()
    say(hostile, call, answer, True)
    assert isinstance(over(done)[hostile.context], contextree.ProtocolError)


def test_s_30_put_reads_what_was_named_and_nothing_else(tree, hostile, tmp_path):
    """Whatever the other end says while it is sent a file, the file is what it gets."""
    (tmp_path / "file").write_bytes(b"a" * MB)
    (tmp_path / "secret").write_bytes(b"canary")
    done = in_background(hostile.context.put, tmp_path / "file", "/whatever")
    call = opened(hostile)
    say(hostile, call, ["ready", [3, b"x" * 32]])
    say(hostile, call, {"is": "file", "path": [b"..", b"secret"], "size": None})
    seen = b""
    while b"\x03end" not in seen and len(seen) < 2 * MB:
        frame = hostile.receive()
        seen += frame.payload if frame.channel == call.channel else b""
        if frame.kind == RESET:
            break
        if len(seen) > 100_000 and not done.done():
            say(hostile, call, [1, MB, 0], True)
            break
    over(done)
    assert b"canary" not in seen


def test_s_31_copy_to_from_a_hostile_context_gives_it_nothing(tree, hostile, web, tmp_path):
    """No grant, not for a moment; and what it sends is checked at the other end as it would be here."""
    (tmp_path / "x").write_text("precious")
    before = census(tmp_path)
    for name in PLAIN[::4]:
        done = in_background(hostile.context.copy_to, "/whatever", web, tmp_path / "target")
        call = opened(hostile)
        assert not tree.engine.grants
        for message in HOSTILE[name]:
            say(hostile, call, message)
        assert isinstance(over(done), (contextree.ProtocolError, NotADirectoryError)), name
    assert census(tmp_path) == before


def test_a_hostile_host_among_many_hurts_itself_alone(tree, hostile, web, tmp_path):
    done = in_background(contextree.put_all, [hostile.context, web], bytes(MB), tmp_path / "target")
    call = opened(hostile)
    say(hostile, call, ["ready", [0, b""]])
    say(hostile, call, {"is": "file", "path": [], "size": digest().hex()}, True)
    found = over(done)
    assert found[web] == (1, MB, 0) and isinstance(found[hostile.context], contextree.ProtocolError)
    assert (tmp_path / "target").read_bytes() == bytes(MB)
