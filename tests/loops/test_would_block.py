"""A-05: the synchronous API on the thread of a running event loop raises WouldBlockLoop, and freezes nothing."""

import asyncio
import gc
import sys
import types

import pytest
import trio

import contextree
from contextree import processes
from contextree.core.mailbox import Mailbox
from tests.loops import greens_far as far

LOOPS = {"asyncio": lambda main: asyncio.run(main()), "trio": trio.run}
IN_THREAD = {"asyncio": asyncio.to_thread, "trio": trio.to_thread.run_sync}


@pytest.fixture
def router():
    with contextree.Router(grace=1.0) as tree:
        yield tree


@pytest.fixture
def child(router):
    return router.fork().with_options(threads=4)


@pytest.fixture(params=sorted(LOOPS))
def loop(request):
    """``loop(function)`` calls it on the thread of a running loop: what it returned."""

    def run(function):
        async def main():
            return function()

        return LOOPS[request.param](main)

    run.name = request.param
    run.run = LOOPS[request.param]
    run.in_thread = IN_THREAD[request.param]
    return run


def waits_of(router, child):
    """Every kind of waiting."""
    channel, stream, future = child.channel(), child.stream(far.count, 0, 3), child.submit(far.nap, 0.2)
    reaper = processes.Reaper(router.broker)
    sleeper = processes.start(["true"], reaper=reaper)
    return {
        "call": lambda: child.call(abs, -1), "result": future.result, "exception": future.exception,
        "next": lambda: next(stream), "send": lambda: channel.send(1), "receive": lambda: channel.receive(1),
        "select": lambda: contextree.select([channel], 1), "wait": lambda: child.wait(1), "ping": child.ping,
        "fork": router.fork, "local": router.local, "shutdown": child.shutdown, "kill": child.kill,
        "dump": child.dump, "close": router.close, "with": router.__enter__, "child": sleeper.wait,
        "check": sleeper.check,
    }, (channel, stream, future, sleeper)


def test_a_05_every_wait_says_which_module_to_use(router, child, loop):
    waits, (channel, stream, future, sleeper) = waits_of(router, child)
    del waits["with"]  # that would end the router: see below
    said = {}
    for name, wait in waits.items():
        with pytest.raises(contextree.WouldBlockLoop, match="contextree." + {"asyncio": "aio"}.get(loop.name, "trio")):
            said[name] = loop(wait)
    assert not said
    assert child.call(abs, -1) == 1 and future.result(10) == 0.2 and list(stream) == [0, 1, 2]
    assert sleeper.wait(10).clean()
    channel.close()


def test_a_05_what_does_not_wait_is_allowed(router, child, loop):
    """Submitting, answers that are there, what is in a channel already, facts."""
    future = child.submit(abs, -5)
    future.result(10)
    channel = child.channel()
    echo = child.submit(far.echo, channel)

    def use():
        assert future.result() == 5 and future.exception() is None
        assert child.submit(abs, -6).cancel() in (True, False)
        assert channel.send_nowait("hello")
        with pytest.raises(contextree.CallTimeout):
            child.channel().receive_nowait()
        return child.state, router.tree().count("\n")

    assert loop(use)[0] == "up"
    assert channel.receive(10) == "hello"
    channel.send_eof()
    echo.result(10)
    channel.close()
    gc.collect()


def test_a_05_futures_are_awaited(child):
    async def main():
        return await asyncio.wrap_future(child.submit(abs, -7))

    assert asyncio.run(main()) == 7


def test_a_05_threads_of_a_loop_may_wait(router, child, loop):
    async def main():
        first = await loop.in_thread(child.call, abs, -8)
        return first, (await loop.in_thread(router.fork)).id

    number, identity = loop.run(main)
    assert number == 8 and router.context_by_id(identity).call(abs, -1) == 1


def test_a_05_a_router_is_not_left_behind_by_the_block(loop):
    """The ``with`` block is refused at its beginning: nothing is left of the router."""
    made = []

    def block():
        made.append(contextree.Router())
        with made[0]:
            raise AssertionError("it was entered")

    with pytest.raises(contextree.WouldBlockLoop):
        loop(block)
    assert made[0].closed and made[0].broker.closed


def test_a_05_allowed(loop):
    """``allow_blocking=True`` has it wait: grown, called, closed on the thread of the loop."""

    def block():
        with contextree.Router(allow_blocking=True, grace=1.0) as router:
            worker = router.fork()
            with worker.channel() as channel:
                echo = worker.submit(far.echo, channel)
                channel.send("x")
                channel.send_eof()
                assert list(channel) == ["x"] and echo.result(10) is None
            worker.shutdown()
            return router.local().call(abs, -9), list(router.fork().stream(far.count, 0, 2))

    assert loop(block) == (9, [0, 1])


def test_a_05_at_a_prompt(child, monkeypatch, loop):
    """In an IPython shell or kernel cells run inside a running loop: there it is allowed by itself, and nothing is
    imported to find out."""
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: None
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    with pytest.raises(contextree.WouldBlockLoop):
        loop(lambda: child.call(abs, -1))
    ipython.get_ipython = lambda: "a shell"
    assert loop(lambda: child.call(abs, -1)) == 1


def test_a_05_a_half_imported_asyncio_is_no_loop(child, monkeypatch):
    monkeypatch.setitem(sys.modules, "asyncio.events", types.ModuleType("asyncio.events"))
    assert child.call(abs, -2) == 2


def test_a_05_in_a_child(router, child):
    """A function that runs a loop in its context: the API refuses there as well, imports work."""
    answer, module = child.call(far.call_in_a_loop)
    assert "contextree.aio" in answer and module == "colorsys"


def test_a_05_on_the_loop_thread_of_the_tree(router, child):
    """The thread that everybody waits for must not wait either."""
    for wait in (lambda: child.call(abs, -1), child.submit(far.nap, 0.1).result):
        with pytest.raises(contextree.WouldBlockLoop, match="loop thread"):
            router.broker.call(wait)


def test_ct_18_wrong_threads_are_refused_under_o(tmp_path):
    """``python -O`` takes no check away."""
    from tests.fork.tools import program

    text = """
import asyncio
import contextree
from contextree.parent.loop import Loop
def kind(function, *args):
    try:
        function(*args)
    except contextree.ContextreeError as error:
        return type(error).__name__
assert False, "this is -O"
with contextree.Router() as router:
    child = router.fork()
    async def main():
        return kind(child.call, abs, -1)
    print(kind(router.broker.timer, 1, print), kind(router.broker.watch, 0, print), asyncio.run(main()),
          kind(router.broker.call, child.call, abs, -1), kind(router.broker.poll_once))
"""
    assert program(text, "-O") == "WrongThread WrongThread WouldBlockLoop WouldBlockLoop WrongThread\n"


def test_ct_21_a_closed_channel_drains_first(child):
    """What was sent comes, then the iteration ends; sending raises."""
    channel = child.channel()
    echo = child.submit(far.echo, channel)
    for number in range(3):
        channel.send(number)
    channel.send_eof()
    echo.result(10)
    with pytest.raises(contextree.Closed):
        channel.send("more")
    assert list(channel) == [0, 1, 2] and list(channel) == []
    box = Mailbox()
    box.put(1)
    box.close()
    assert box.get() == 1
    with pytest.raises(contextree.Closed):
        box.put(2)
