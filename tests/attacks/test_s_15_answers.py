"""S-09, S-13, S-15 to S-17, P-13 to P-23: what is in answers, errors, logs and module requests."""

import logging
import pickle
import time

import pytest

import contextree
from contextree import RemoteError
from contextree.core.wire import values
from contextree.core.wire.frames import (
    BULK, CALL, CALLS, CREDIT, DATA, FIN, LOG, LOGS, MODULES, MORE, NUMBER, OPEN, OPENER, RESET, RESOURCE,
)
from tests.attacks import functions
from tests.lab.poll import until


def call(child):
    future = child.context.submit(functions.echo, 1)
    return future, child.wait_for(OPEN, lambda frame: frame.payload[0] == CALL)


def answered(child, data):
    """What a call gives when the child answers ``data``."""
    future, opened = call(child)
    for start in range(0, len(data) or 1, 60000):
        last = start + 60000 >= len(data)
        child.answer(opened, data[start:start + 60000], flags=FIN if last else MORE, cls=BULK)
    return future.result(10)


# -- S-09


@pytest.mark.parametrize("name", ["secretmod", "__main__", "..", "../x", "/etc/passwd", "contextree.master.engine",
                                  "os",
                                  "a" * 5000, "", "\0", "tests.attacks.functions\n__main__", "contextree.", "\ud800"])
def test_s_09_modules_that_nobody_shared_are_denied(tree, hostile, name, monkeypatch, tmp_path):
    (tmp_path / "secretmod.py").write_text("password = 'canary'")
    monkeypatch.syspath_prepend(tmp_path)
    hostile.open(MODULES, b"\0\0\0\0" + name.encode("utf-8", "surrogatepass"), channel=3)
    for asked in name.split("\n"):
        record = pickle.loads(hostile.wait_for(DATA).payload)
        if asked != "tests.attacks.functions":
            assert record[1] == 0 and not record[4], record
        assert b"canary" not in pickle.dumps(record)


@pytest.mark.parametrize("question", [
    ["source", "secretmod"], ["resource", "tests", "conftest.py"], ["resource", "tests", "../setup.py"],
    ["name", 10 ** 30], ["name"],
    ["name", "x"], [], None, {"a": 1}, ["source", "__main__"], ["source", 5], ["resource", "/etc", "passwd"], "name",
    [["name"], 1], ["files", "tests"], ["contents", "tests", ""],
], ids=repr)
def test_s_09_questions_about_what_nobody_shared_get_nothing(tree, hostile, question):
    hostile.open(RESOURCE, values.encode(question), channel=3)
    frame = hostile.receive()
    while frame.kind not in (DATA, RESET):
        frame = hostile.receive()
    if frame.kind == DATA:
        assert not pickle.loads(frame.payload) or frame.payload.count(b"\n") < 5, frame
    assert b"guard" not in frame.payload


def test_s_09_bytes_that_are_no_question_end_that_request_alone(tree, hostile):
    for number, data in enumerate((b"", b"\xc1", b"\x80\x04K\x01.", b"\x91" * 1000)):
        hostile.open(RESOURCE, data, channel=10 + number)
    hostile.open(RESOURCE, values.encode(["name", tree.sibling.id]), channel=50)
    assert pickle.loads(hostile.wait_for(DATA, lambda frame: frame.channel == 50).payload) == "sibling"


# -- S-13: bombs, as answers to a call

BOMBS = {
    "depth": b"\x91" * 100000 + b"\xc0",
    "items claimed": b"\xdd\x05\xf5\xe1\x00",
    "pairs claimed": b"\xdf\xff\xff\xff\xff" + b"\0" * 100,
    "bytes claimed": b"\xc6\xff\xff\xff\xff",
    "a long int": b"\xc9" + NUMBER.pack(4200000) + b"\x01" + b"\x7f" * 4200000,
    "NaN as a key": b"\x81\xcb\x7f\xf8\0\0\0\0\0\0\xc0",
    "an unhashable key": b"\x81\x90\xc0",
    "a surrogate": b"\xa3\xed\xa0\x80",
    "pickle": pickle.dumps(print),
    "nothing": b"",
    "an unknown type": b"\xc1",
    "a half": b"\x92\x01",
    "a type by name": values.encode(["x"])[:0] + b"\xc7\x0b\x07\x92\xa9os.system" + b"\xa0",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_s_13_a_bomb_is_the_error_of_that_call(tree, hostile, bomb):
    with pytest.raises(contextree.DecodeError):
        answered(hostile, b"\0" + BOMBS[bomb])
    assert answered(hostile, b"\0\x05") == 5, "the context lives on"


@pytest.mark.parametrize("form",
                         [b"", b"\1" + pickle.dumps(5), b"\3" + NUMBER.pack(0) + b"\0" * 8, b"\5\0\0", b"\7x", b"\xff"],
                         ids=repr)
def test_s_13_forms_that_an_untrusted_child_may_not_use(tree, hostile, form):
    with pytest.raises(contextree.PeerError):
        answered(hostile, form)
    assert answered(hostile, b"\0\x05") == 5


class Canary:
    def __reduce__(self):
        return open, ("/nonexistent/canary", "w")


def test_s_13_nothing_from_an_untrusted_child_is_unpickled(tree, hostile):
    data = pickle.dumps(Canary())
    with pytest.raises(contextree.ProtocolError):
        answered(hostile, b"\1" + data)
    record = ["tests.attacks.test_s_15_answers", "Canary", None, "text", "trace", "ctx", data, {}]
    with pytest.raises(RemoteError, match="text"):
        answered(hostile, b"\4" + values.encode(record))


# -- S-15: exception records

def record(module="builtins", name="ValueError", args=("x",), text="x", trace="trace", context="hostile", pickled=None,
           fields=None):
    return b"\4" + values.encode([module, name, args, text, trace, context, pickled, fields or {}])


def test_s_15_what_is_no_exception_type_arrives_as_text(tree, hostile):
    for module, name in (("os", "system"), ("builtins", "eval"), ("builtins", "print"), ("builtins", "SystemExit"),
                         ("builtins", "KeyboardInterrupt"), ("builtins", "GeneratorExit"),
                         ("builtins", "BaseException"),
                         ("builtins", "__import__"), ("contextree.core.wire.errors", "_rebuild"), ("x\ny", "Z\x1b[2J"),
                         ("contextree.core.wire.errors", "__builtins__"), ("builtins", "int.__class__")):
        with pytest.raises(RemoteError) as caught:
            answered(hostile, record(module, name, ("echo canary",)))
        assert type(caught.value) is RemoteError


@pytest.mark.parametrize("record", [
    None, [], {}, [1, 2, 3], ["builtins", "ValueError"], [None] * 8, [[]] * 8, [{}] * 8, [1.5] * 8, "builtins",
    [b"x"] * 8, ["builtins", ["ValueError"], ("x",), "t", "t", "c", None, {}],
    [["builtins"], "ValueError", ("x",), "t", "t", "c", None, {}],
    ["builtins", "ValueError", "x", "t", "t", "c", None, {}],
    ["builtins", "UnicodeDecodeError", ("x",), "t", "t", "c", None, {}],
    ["builtins", "OSError", (2, "x", 3, 4, 5, 6, 7), "t", "t", "c", None, {}],
    ["contextree.core.wire.errors", "ContextDied", (), "t", "t", "c", None,
     {"args": 5, "__class__": 1, "self": 2, "message": 3}],
    ["contextree.core.wire.errors", "CallTimeout", (), "t", "t", "c", None, [1]],
    ["contextree.core.wire.errors", "CallTimeout", (), "t", "t", "c", None,
     {"__traceback__": 1, "__cause__": 5, "with_traceback": 7}],
    ["builtins", "ExceptionGroup", ("x", [1]), "t", "t", "c", None, {}],
], ids=lambda record: repr(record)[:60])
def test_s_15_malformed_records_are_errors_of_that_call(tree, hostile, record):
    with pytest.raises(Exception) as caught:  # noqa: PT011  which one is looked at below
        answered(hostile, b"\4" + values.encode(record))
    assert isinstance(caught.value, Exception)
    str(caught.value), repr(caught.value)
    assert answered(hostile, b"\0\x05") == 5


def test_s_15_a_huge_text_is_cut(tree, hostile):
    with pytest.raises(ValueError, match="x") as caught:
        answered(hostile, record(text="t" * 10_000_000, trace="T" * 10_000_000))
    remote = caught.value.__cause__
    assert len(remote.text) < 200_000 and len(remote.traceback) < 200_000
    assert len(str(remote)) < 500_000


# -- S-16: logs

def log(child, payload):
    return child.send(LOG, payload, cls=LOGS)


def line(name="app", level=20, text="text", path="p.py", number=1, function="f", created=1.0, trace=None):
    return values.encode([0, name, level, text, path, number, function, created, trace])


def logged(tree, child, marker="end of test"):
    """The records of ``child``, once ``marker`` has come, which is sent now."""
    log(child, line(text=marker))
    until(lambda: any(marker in record.getMessage() for record in tree.log.records), "the marker in the log")
    return [record for record in tree.log.records if getattr(record, "context", None) == child.name
            and record.name != "contextree.security"]


def test_s_16_a_record_is_data_of_one_logger(tree, hostile):
    log(hostile, line(text="%s %d %(x)s {} %n"))
    log(hostile, line(text="line\nsibling: all is well\r\x1b[31mred\x07\u202e", name="sibling\nx"))
    log(hostile, line(level=10 ** 9))
    log(hostile, line(level=-5))
    for number in range(3000):
        log(hostile, line(name="logger%d" % number))
    before = len(logging.root.manager.loggerDict)
    records = logged(tree, hostile)
    assert {record.name for record in records} == {"contextree.hostile"}
    assert records[0].getMessage() == "%s %d %(x)s {} %n"
    assert not {"\x1b", "\r", "\u202e"} & set(records[1].getMessage())
    assert records[2].levelno == 50 and 0 <= records[3].levelno <= 50
    assert "\n" not in records[1].name
    assert len(logging.root.manager.loggerDict) <= before + 5
    formatter = logging.Formatter("%(asctime)s %(name)s %(levelname)s %(pathname)s %(lineno)d %(funcName)s %(message)s")
    for one in records[:5]:
        formatter.format(one)


@pytest.mark.parametrize("payload", [
    b"", b"\xc1", values.encode([]), values.encode(5), values.encode([0]), values.encode([7, 1]),
    values.encode([0] * 9), values.encode([0, "n", "x", "t", "p", 1, "f", 1.0, None]),
    values.encode([0, "n", 20, "t", "p", float("inf"), "f", 1.0, None]),
    values.encode([0, "n", float("nan"), "t", "p", 1, "f", 1.0, None]),
    values.encode([0, "n", 20, "t", "p", 1, "f", float("nan"), None]),
    values.encode([0, "n", 20, "t", "p", 1, "f", 1e300, None]),
    values.encode([0, "n", 20, "t", "p", 1, "f", -1e300, None]),
    values.encode([0, "n", 20, "t", "p", 10 ** 100, "f", 1.0, None]), values.encode([1, 10 ** 9]),
    values.encode([1, None]),
    values.encode([1, 5, b"x"]), values.encode([[], b"x"]),
    values.encode([2, 0, "stderr", b"x"]), values.encode([2, 1, "stderr", b"forged"]),
    values.encode([2, [], "stderr", b"x"]),
    values.encode([2, 0, "security", b"forged"]), values.encode([2, None, "security", "forged"]), values.encode({0: 1}),
    values.encode([[0], 1]), values.encode("abcdefghi"),
], ids=lambda payload: repr(payload)[:40])
def test_s_16_malformed_records_are_dropped(tree, hostile, payload):
    log(hostile, payload)
    records = logged(tree, hostile)
    formatter = logging.Formatter("%(asctime)s %(name)s %(levelname)s %(pathname)s %(lineno)d %(funcName)s %(message)s")
    for one in records:
        formatter.format(one)
    assert not any("forged" in record.getMessage() for record in tree.log.records)


def test_s_16_a_flood_of_records_is_dropped_before_it_is_decoded(tree, hostile):
    decoded = []
    logs = tree.engine.logs
    true = tree.engine.decode

    def decode(data):
        decoded.append(1)
        return true(data)

    tree.engine.decode = decode
    try:
        frame = hostile.frame(LOG, line(), cls=LOGS)
        for _ in range(200):
            hostile.write(frame * 1000)
        tree.barrier(hostile)
    finally:
        tree.engine.decode = true
    assert len(decoded) < 120000
    assert tree.police()["dropped"] > 50000
    until(lambda: not len(logs.waiting), "the log to be written")
    assert tree.sibling.call(functions.echo, 1) == 1


# -- S-17: what it prints

def test_s_17_a_line_without_end_is_cut(tree, hostile):
    before = len(tree.log.records)
    for _ in range(64):
        hostile.complain(b"x" * 65000)
    hostile.complain(b"\nlast line\n")
    until(lambda: any("last line" in record.getMessage() for record in tree.log.records), "the last line")
    assert all(len(record.getMessage()) <= 8192 for record in tree.log.records[before:])
    assert len(tree.engine.children[hostile.id].partial.rest) <= 8192


def test_s_17_a_flood_of_lines_is_dropped_and_the_siblings_do_not_wait(tree, hostile):
    start = time.perf_counter()
    for _ in range(12):
        hostile.complain(b"\n" * 65536)
        assert tree.sibling.ping(10) < 10
    assert time.perf_counter() - start < 30
    tree.log.records[:] = [record for record in tree.log.records if record.name == "contextree.security"]


def test_s_17_prompts_and_nonces_in_the_output_are_text(tree, hostile):
    hostile.complain(b"Password: \n[sudo] password for x: \n" + hostile.nonce + hostile.frame(DATA, b"x")
                     + b"\n\x1b[2Jhi\n")
    until(lambda: any("hi" in record.getMessage() for record in tree.log.of("contextree.hostile.stderr")), "the lines")
    assert not any("\x1b" in record.getMessage() for record in tree.log.records)
    assert answered(hostile, b"\0\x05") == 5


# -- P-13 to P-23 where no hostile child is needed they are seen from both ends


def test_p_13_data_for_an_unknown_channel_is_answered_by_the_target(tree, hostile):
    hostile.send(DATA, b"x", channel=4711, flags=OPENER, cls=CALLS)
    reset = hostile.wait_for(RESET)
    assert (reset.channel, reset.src, reset.flags & OPENER) == (4711, 0, 0)
    assert b"no channel 4711" in reset.payload


def test_p_14_p_15_a_message_to_a_context_that_is_not_there_is_answered(tree, hostile):
    for number in (hostile.id + 1000, 4000000000):
        for kind in (OPEN, DATA, CREDIT):
            hostile.send(kind, b"\1" + b"\0" * 11, channel=9, dst=number, flags=OPENER,
                         cls=CALLS if kind != CREDIT else 0)
            reset = hostile.wait_for(RESET)
            assert reset.src == number and b"no context %d" % number in reset.payload
    with tree.hostile(name="shortlived") as other:
        gone = other.context
    with pytest.raises(contextree.ContextDied, match="shortlived ended"):
        gone.call(functions.echo, 1)


def test_p_16_a_frame_from_above_for_a_vanished_grandchild_is_answered_not_bounced(tree):
    middle = tree.router.local(name="middle")
    below = middle.fork(name="below")
    assert below.call(functions.echo, 2) == 2
    number = below.id
    below.shutdown()
    with pytest.raises(contextree.ContextDied, match="below ended"):
        below.call(functions.echo, 1)
    from contextree.parent.reports import Info

    # as if the news had not come yet: the middle one must answer in the name of the one that is gone
    tree.engine.gone.pop(number)
    tree.engine.infos[number] = Info(number, "middle.below", middle.id, tree.engine.children[middle.id].link, True)
    try:
        with pytest.raises(contextree.ContextDied, match="below"):
            below.with_options(timeout=10).call(functions.echo, 1)
    finally:
        tree.broker.call(tree.engine.remove, [number], "test")
        middle.shutdown()


def test_p_17_p_18_p_19_the_limit_of_messages_holds_everywhere():
    with contextree.Router(max_message=1 << 20) as router:
        child = router.local()
        below = child.fork()
        for context in (child, below):
            with pytest.raises(contextree.NotSendable, match="larger than the limit"):
                context.call(functions.repeat, b"x", 3 << 20)  # the reply: whoever waits for it is told
            with pytest.raises(contextree.NotSendable, match="larger than the limit"):
                context.call(functions.echo, b"x" * (3 << 20))
            assert context.call(functions.echo, "alive") == "alive"


def test_p_20_p_21_p_22_violations_are_dropped_counted_logged_and_answered(tree, hostile):
    hostile.open(CALL, b"x", dst=tree.sibling.id, channel=8)
    assert b"not granted" in hostile.wait_for(RESET).payload
    hostile.open(CALL, b"x", src=tree.sibling.id, channel=8)
    tree.barrier(hostile)
    assert tree.police()["refused"] == 1 and tree.police()["spoofed"] == 1
    tree.complaint("has no grant")
    tree.complaint("in the name of")


def test_p_23_a_channel_number_that_is_in_use_is_refused_and_free_again_afterwards(tree, hostile):
    hostile.open(RESOURCE, b"", channel=6, flags=MORE)
    hostile.open(RESOURCE, values.encode(["name", 0]), channel=6)
    assert b"bad OPEN" in hostile.wait_for(RESET).payload
    hostile.send(RESET, b"\0", channel=6, flags=OPENER)
    hostile.open(RESOURCE, values.encode(["name", 0]), channel=6)
    assert pickle.loads(hostile.wait_for(DATA).payload) == "master"
