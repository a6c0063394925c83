"""What children log and print comes to the master's logging: whole, named, harmless, in order."""

import logging
import os
import sys
import threading

import pytest

import contextree
from contextree.connect.plan import PYTHON
from tests.lab.poll import until
from tests.logs import far


def records(caplog, text):
    return [record for record in caplog.records if text in record.getMessage()]


def wait_for(caplog, text, count=1):
    """The records that have ``text`` in them, once there are ``count``."""
    return until(lambda: len(records(caplog, text)) >= count and records(caplog, text), "the record %r" % text)


@pytest.mark.parametrize("kind", ["local", "fork"])
def test_a_record_comes_with_all_that_it_had(router, caplog, kind):
    context = getattr(router, kind)(name="web")
    context.call(far.say, logging.INFO, "the number is %d", 42)
    record = wait_for(caplog, "the number is 42")[0]
    assert (record.levelno, record.levelname) == (logging.INFO, "INFO")
    assert record.name == "contextree.web"
    assert (record.remote_name, record.context, record.context_id) == ("far.away", "web", context.id)
    assert record.pathname.endswith("tests/logs/far.py") and record.funcName == "say" and record.lineno > 5
    context.call(far.fail)
    record = wait_for(caplog, "it failed")[0]
    assert record.levelno == logging.ERROR
    assert "ValueError: the reason" in record.exc_text and "in fail" in record.exc_text
    assert "ValueError: the reason" in logging.Formatter().format(record)


def test_p_41_the_earliest_lines_are_not_lost(router, caplog):
    """Said by a function that runs before the first call, in a child of a child."""
    via = router.local(name="via")
    below = router.local(name="below", via=via, on_start=[far.import_late])
    record = wait_for(caplog, "from a late import")[0]
    assert record.context == "via.below" == below.name


def test_the_last_lines_are_not_lost(router, caplog):
    context = router.local(name="web")
    context.submit(far.write, 1, b"".join(b"last words %d\n" % number for number in range(200)))
    context.submit(far.write, 1, b"no newline")
    context.call(far.say, logging.INFO, "the last record")
    context.shutdown()
    router.close()
    assert len(records(caplog, "last words")) == 200
    assert records(caplog, "no newline") and records(caplog, "the last record")


def test_p_42_a_custom_record_factory(router, caplog):
    before = logging.getLogRecordFactory()

    class Record(logging.LogRecord):
        def getMessage(self):  # noqa: N802
            return "custom " + super().getMessage()

    logging.setLogRecordFactory(Record)
    try:
        router.local().call(far.say, logging.INFO, "made by %s", "the factory")
        assert isinstance(wait_for(caplog, "custom made by the factory")[0], Record)
    finally:
        logging.setLogRecordFactory(before)


def test_logging_is_not_imported_for_nothing_and_a_late_import_is_caught(router, caplog):
    context = router.local()
    assert not context.call(eval, "'logging' in __import__('sys').modules")
    context.call(exec, "import logging; logging.getLogger('late').warning('from a late import')")
    assert wait_for(caplog, "from a late import")[0].remote_name == "late"


def test_levels_are_filtered_where_they_are_made(caplog):
    caplog.set_level(logging.DEBUG)
    with contextree.Router(log_level=logging.WARNING) as router:
        context = router.local()
        for level, text in ((logging.INFO, "too low"), (logging.WARNING, "high enough")):
            context.call(far.say, level, text)
        wait_for(caplog, "high enough")
        assert context.call(eval, "__import__('logging').getLogger().level") == logging.WARNING
    assert not records(caplog, "too low")


def test_basic_config_there_does_no_harm(router, caplog):
    context = router.local(name="web")
    context.call(far.basic_config)
    assert len(wait_for(caplog, "after basicConfig")) == 1
    context.call(far.say, logging.INFO, "another")
    assert len(wait_for(caplog, "another")) == 1


@pytest.mark.parametrize("kind", ["local", "fork"])
def test_p_78_lines_of_stdout_and_stderr(router, caplog, kind):
    context = getattr(router, kind)(name="web")
    for fd, name, level in ((1, "stdout", logging.INFO), (2, "stderr", logging.WARNING)):
        context.call(far.write, fd, ("one of %s\ntwo of %s\n" % (name, name)).encode())
        for text in ("one of ", "two of "):
            record = wait_for(caplog, text + name)[0]
            assert (record.name, record.levelno, record.context) == ("contextree.web." + name, level, "web")
            assert record.getMessage() == text + name
        context.call(far.write, fd, ("the end of " + name).encode())
    context.shutdown()
    assert wait_for(caplog, "the end of stdout") and wait_for(caplog, "the end of stderr")


def test_output_of_programs_that_a_child_starts(router, caplog):
    router.local(name="web").call(far.start_program, "echo to stdout; echo to stderr >&2; printf 'no end'")
    wait_for(caplog, "to stdout")
    wait_for(caplog, "to stderr")
    router.close()
    assert records(caplog, "no end")


@pytest.mark.parametrize("kind", ["local", "fork"])
def test_p_44_a_mebibyte_on_stdout(router, caplog, kind):
    context = getattr(router, kind)()
    for fd in (0, 1, 2):
        assert context.call(far.flags, fd)
    context.call(far.write, 1, (b"z" * 1023 + b"\n") * 1024)
    context.call(print, "q" * (1 << 20))
    context.call(print, "after that")
    wait_for(caplog, "after that")
    assert len(records(caplog, "z" * 1023)) == 1024
    assert sum(len(record.getMessage()) for record in records(caplog, "qqqq")) == 1 << 20
    assert context.call(sum, [1, 1]) == 2


def test_s_16_records_are_data(router, caplog):
    context = router.local(name="web")
    context.call(far.odd_records)
    context.call(far.say, logging.INFO, "%s %s %d", "100%", "%(name)s", 3)
    wait_for(caplog, "100% %(name)s 3")
    record = wait_for(caplog, "level of a billion")[0]
    assert record.levelno == logging.CRITICAL and len(record.remote_name) == 128
    text = wait_for(caplog, "second line")[0].getMessage()
    assert "\x1b" not in text and "\x00" not in text and "\x85" not in text
    assert len(wait_for(caplog, "long yyy")[0].getMessage()) == 8192
    assert {record.name for record in caplog.records if record.name.startswith("contextree.web")} <= {
        "contextree.web", "contextree.web.stderr"}


def test_s_16_a_flood_is_bounded_and_costs_others_nothing(router, caplog):
    loud, quiet = router.local(name="loud"), router.local(name="quiet")
    flood = loud.submit(far.flood, 50000)
    assert quiet.call(sum, [1, 2]) == 3
    quiet.call(far.say, logging.WARNING, "a word in between")
    wait_for(caplog, "a word in between")
    flood.result(40)
    assert quiet.ping(5) < 5
    links = router.stats()["links"]
    dropped = router.engine.logs.dropped + links["loud"]["dropped_logs"]
    assert len(records(caplog, "line ")) + dropped <= 50000
    assert len(records(caplog, "line ")) < 40000


def test_p_43_a_secret_is_masked_and_usable(router):
    secret = contextree.Secret("the Canary")
    assert "Canary" not in "%r %s %r" % (secret, secret, [secret]) + f"{secret}"
    assert secret == "the Canary" and secret.reveal() == "the Canary"
    assert router.local().call(len, secret) == 10
    assert router.local().call(str.upper, secret) == "THE CANARY"


def test_b_09_ten_megabytes_on_stdout_while_the_log_is_slow(router):
    """The program's handler takes one record, then none until the call is over: nobody waits, nothing piles up."""
    gate, begun = threading.Event(), threading.Event()

    class Slow(logging.Handler):
        def emit(self, record):
            begun.set()
            gate.wait(50)

    logger = logging.getLogger("contextree.loud.stdout")
    handler = Slow()
    logger.addHandler(handler)
    logger.propagate = False
    try:
        loud, quiet = router.local(name="loud"), router.local(name="quiet")
        loud.call(far.print_lines, 10)
        there, here = loud.call(far.peak), memory()
        assert loud.call(far.print_lines, 100_000) == 100_000  # of 100 bytes
        assert begun.is_set() and not gate.is_set(), "the call came back while the log stood still"
        assert quiet.call(sum, [1, 2]) == loud.call(sum, [3]) == 3
        assert loud.call(far.peak) - there < 8, "MiB, there"
        assert memory() - here < 32, "MiB, here"
    finally:
        gate.set()
        router.close()
        logger.removeHandler(handler)
        logger.propagate = True


def memory():
    """MiB that this process has in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


@pytest.mark.parametrize("kind", ["local", "fork", "direct", "terminal"])
def test_p_45_stderr_is_a_pipe_to_the_parent(router, caplog, kind):
    """By every method, also where the command has a terminal: that is for its dialogue alone."""
    if kind == "terminal":
        context = router.grow(contextree.Plan([PYTHON], "web", "test", tty=True, python=[sys.executable], trusted=True))
    elif kind == "direct":
        context = router.fork(direct=True, name="web")
    else:
        context = getattr(router, kind)(name="web")
    assert context.call(far.is_pipe, 2) and context.call(far.is_pipe, 1)
    context.call(far.write, 2, b"to stderr\n")
    record = wait_for(caplog, "to stderr")[0]
    assert (record.name, record.levelno) == ("contextree.web.stderr", logging.WARNING)
