"""What goes wrong in a call arrives as what it was, and the context lives on."""

import importlib
import os
import signal
import sys
import traceback

import pytest

import contextree
from contextree.core.wire.errors import RemoteError
from tests.calls import functions as f


def caught(place, function, *args):
    with pytest.raises(BaseException) as info:  # noqa: PT011 - what it is is for the caller to look at
        place.call(function, *args)
    assert place.call(f.add, 1) == 2, "the context lives on"
    return info.value


def test_builtin_exceptions_are_themselves_with_the_remote_text_as_cause(place):
    error = caught(place, f.fail, KeyError, "key")
    assert type(error) is KeyError and error.args == ("key",)
    remote = error.__cause__
    assert type(remote) is RemoteError
    assert remote.context == place.name and remote.type_name == "builtins.KeyError"
    assert "in fail" in remote.traceback and "raise kind(*args)" in remote.traceback
    assert "core/calls.py" not in remote.traceback, "none of our own frames"


def test_os_errors_keep_number_and_names(local, stranger, tmp_path):
    for place in (local, stranger):
        error = caught(place, os.stat, "/nowhere")
        assert type(error) is FileNotFoundError and error.errno == 2 and error.filename == "/nowhere"
        error = caught(place, os.rename, "/nowhere", "/there")
        assert (error.filename, error.filename2) == ("/nowhere", "/there")
        assert error.args == (2, "No such file or directory")
        error = caught(place, f.fail, OSError, 5, "five")
        assert type(error) is OSError and error.args == (5, "five") and error.filename is None
        error = caught(place, bytes.decode, b"ab\xff")
        assert type(error) is UnicodeDecodeError and (error.object, error.start) == (b"ab\xff", 2)


def test_attributes_notes_and_groups_come_from_a_trusted_context(local):
    assert caught(local, f.fail_noted).extra == {"key": 1}
    if sys.version_info >= (3, 11):
        error = caught(local, f.fail_group)
        assert [type(each) for each in error.exceptions] == [ValueError, FileNotFoundError]
        assert error.exceptions[1].filename == "file"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have notes since 3.11")
def test_notes_are_in_the_remote_text_and_on_the_exception_of_who_is_trusted(local, stranger):
    notes = ["first note", "second \u00fc"]
    error = caught(local, f.fail_with_notes, notes)
    assert type(error) is ValueError and error.args == ("noted",) and error.__notes__ == notes
    with pytest.raises(ValueError, match="noted") as info:
        local.submit(f.fail_with_notes, notes).result(20)
    assert info.value.__notes__ == notes
    distant = caught(stranger, f.fail_with_notes, notes)
    assert type(distant) is ValueError and not hasattr(distant, "__notes__"), "what a stranger says stays in the text"
    for each in (error, distant):
        assert "ValueError: noted\nfirst note\nsecond \u00fc\n" in each.__cause__.traceback
    shown = "".join(traceback.format_exception(error))
    assert shown.count("first note") >= 2 and "second \u00fc" in shown, "here, and in the remote text"


def test_types_of_modules_are_themselves_from_a_trusted_context(local, stranger):
    error = caught(local, f.fail, f.Plain, 1, "two")
    assert type(error) is f.Plain and error.args == (1, "two") and type(error.__cause__) is RemoteError
    error = caught(stranger, f.fail, f.Plain, 1, "two")
    assert type(error) is RemoteError and error.type_name == "tests.calls.functions.Plain"
    assert error.text == "(1, 'two')" and "in fail" in error.traceback and error.context == "stranger"


def test_constructors_that_want_other_arguments(local, stranger):
    for place in (local, stranger):
        error = caught(place, f.fail, f.Custom, 7, "seven")
        assert type(error) is RemoteError and error.type_name.endswith("Custom") and error.text == "7: seven"


def test_registered_types_are_themselves_from_anybody(stranger):
    contextree.register_exception(f.Plain)
    try:
        error = caught(stranger, f.fail, f.Plain, 1, "two")
        assert type(error) is f.Plain and error.args == (1, "two")
    finally:
        from contextree.parent import calls

        del calls.exception_types[f.Plain.__module__, "Plain"]
    with pytest.raises(contextree.UsageError, match="wants a class of exceptions"):
        contextree.register_exception(int)


def test_s_15_hostile_exceptions_are_text(local, stranger):
    for place in (local, stranger):
        error = caught(place, f.fail, f.Hostile)
        assert type(error) is RemoteError and "its text cannot be made" in error.text
        error = caught(place, f.fail, f.HoldsLock)
        assert type(error) is RemoteError and "lock" in error.text


def test_chains_are_in_the_text(local, stranger):
    for place in (local, stranger):
        error = caught(place, f.fail_chained)
        assert type(error) is ValueError
        assert "KeyError: 'first'" in error.__cause__.traceback
        assert "direct cause of the following" in error.__cause__.traceback


def test_p_77_a_long_text_is_shortened(local, stranger):
    for place in (local, stranger):
        error = caught(place, f.fail_long)
        remote = error.__cause__
        assert type(error) is ValueError and len(remote.traceback) < 70_000
        assert "begin" in remote.traceback and remote.traceback.rstrip().endswith("end")
        assert "characters left out" in remote.traceback


def test_p_76_exits_and_interrupts_are_errors_of_the_call(place):
    for kind in (SystemExit, KeyboardInterrupt, GeneratorExit):
        error = caught(place, f.fail, kind, 3)
        assert type(error) is RemoteError and error.type_name == "builtins." + kind.__name__
    assert type(caught(place, sys.exit, "bye")) is RemoteError
    assert type(caught(place, f.recurse)) is RecursionError
    assert type(caught(place, bytearray, 1 << 62)) is MemoryError


def test_p_76_results_that_cannot_be_sent(place):
    error = caught(place, f.unpicklable)
    assert type(error) is contextree.NotSendable and "lock" in str(error)


def test_failures_while_arguments_are_unpickled(local):
    error = caught(local, f.identity, f.Trap())
    assert type(error) is LookupError and "_snap" in error.__cause__.traceback


def test_modules_missing_there(router, pythons):
    for place in (router.local(), router.local(python=pythons["3.8"].argv)):
        error = caught(place, importlib.import_module, "nobody_has_this")
        assert type(error) is ModuleNotFoundError and error.name == "nobody_has_this" and "does not have" in str(error)


@pytest.mark.parametrize("method", ["local", "fork", "direct"])
def test_p_01_death_in_a_call_says_how_and_last_words(router, method):
    place = router.fork(direct=True) if method == "direct" else getattr(router, method)()
    waiting = place.submit(f.add, 1)
    assert waiting.result(10) == 2
    with pytest.raises(contextree.ContextDied) as info:
        place.call(f.die, 3)
    error = info.value
    assert place.name in str(error) and "exited with status 3" in str(error) and "last words" in str(error)
    assert error.context == place.name
    with pytest.raises(contextree.ContextDied, match="exited with status 3"):
        place.call(f.add, 1)


def test_p_01_death_by_signal(router):
    place = router.local()
    with pytest.raises(contextree.ContextDied, match=r"SIGKILL"):
        place.call(os.kill, place.pid, signal.SIGKILL)
    place = router.local()
    with pytest.raises(contextree.ContextDied, match=r"SIGSEGV[\s\S]*about to fall"):
        place.call(f.die_of_segfault)


def test_p_02_death_of_one_in_between(router):
    middle = router.local()
    far = router.local(via=middle)
    pid = far.pid
    waiting = far.submit(signal.pause)
    with pytest.raises(contextree.ContextDied):
        middle.call(f.die, 4)
    with pytest.raises(contextree.ContextDied, match="exited with status 4"):
        waiting.result(10)
    os.kill(pid, signal.SIGKILL)  # it would end by itself, some seconds after its parent
