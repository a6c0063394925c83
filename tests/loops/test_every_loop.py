"""The interface, and the life of trees, in every kind of event loop: asyncio, uvloop, trio, trio as a guest."""

import os
import signal
import subprocess

import pytest

import contextree
from contextree.loops import threads
from tests.lab import processes as lab
from tests.lab.poll import until
from tests.loops import far


def test_the_whole_interface(world, tmp_path):
    api = world.api

    async def main():
        async with api.Router(grace=1.0) as router:
            web = await router.local(name="web")
            below = await router.fork(via=web, name="below", threads=2)
            assert (web.name, below.name, web.state) == ("web", "web.below", "up")
            assert below.parent == web and web.children == [below] and {web: 1}[router.context_by_id(web.id)] == 1
            assert set(router.contexts) == {web, below}
            assert await web.call(far.add, 41) == 42 and await below.call(far.add, 1) == 2
            assert await web.call(far.add, 1, second=2) == 3
            with pytest.raises(ValueError, match="no luck") as caught:
                await web.call(far.fail, "no luck")
            assert isinstance(caught.value.__cause__, contextree.RemoteError)
            first, second = web.submit(far.add, 1), below.submit(far.add, 2)
            assert (await first, await second) == (2, 3)
            with pytest.raises(ValueError, match="as well"):
                await web.submit(far.fail, "as well")
            assert [x async for x in web.stream(range, 1000)] == list(range(1000))
            async with web.stream(far.count, str(tmp_path / "closed")) as numbers:
                assert [await numbers.__anext__() for _ in range(3)] == [0, 1, 2]
            assert await web.call(int, 1) == 1
            assert (tmp_path / "closed").read_text() == "closed"
            async with web.channel() as channel:
                echoing = web.with_options(threads=1).submit(far.echo, channel)
                await channel.send(b"x" * 300000)
                await channel.send(2)
                assert await api.select([channel], 20) == [channel]
                assert (await channel.receive(), await channel.receive(20)) == (b"x" * 300000, 2)
                assert await api.select([channel], 0.01) == []
                with pytest.raises(contextree.CallTimeout):
                    await channel.receive(0.01)
                await channel.send_eof()
                assert [x async for x in channel] == []
            await echoing
            with pytest.raises(contextree.CallTimeout, match=r"web did not answer nap within 0\.05 s"):
                await web.with_options(timeout=0.05).call(far.nap, 0.3)
            assert 0 < await web.ping(20) < 20
            pids = await api.gather([web, below], far.me)
            assert pids == {web: web.pid, below: below.pid}
            failed = await api.gather([web], far.fail, "kept")
            assert isinstance(failed.errors[web], ValueError)
            assert "web.below" in router.tree() and router.stats()["router"]["opened"] > 5
            assert "Thread" in await web.dump()
            with pytest.raises(contextree.CallTimeout):
                await below.wait(0.01)
            async with await router.fork() as third:
                await router.grant(third, web)
            assert third.state == "died"
            await below.kill()
            assert "below" in str(await below.wait(20))
            with pytest.raises(contextree.ContextDied):
                await below.call(far.add, 1)
        assert web.state == "died"
        with pytest.raises(contextree.Closed):
            await web.call(far.add, 1)

    world.run(main)


def test_handles_cross(world, router, web):
    """A handle that is passed arrives as one for threads; results that are handles are for this loop."""

    async def main():
        here = world.api.wrap(web)
        assert here.sync is web and world.api.wrap(router).context_by_id(web.id) == here
        assert await here.call(str, here) == str(web)
        back = await here.call(far.same, here)
        assert back == here and type(back) is world.api.Context
        with pytest.raises(contextree.UsageError):
            world.api.wrap(1)

    world.run(main)


@pytest.mark.parametrize("where", ["here", "below"])
@pytest.mark.parametrize("wait", [True, False])
def test_a_connect_that_is_cancelled_when_its_answer_has_come(world, router, web, where, wait):
    """The answer and the cancel cross: nobody will know of the child, so it ends."""
    async def main():
        place = world.api.wrap(router if where == "here" else web)
        if where == "below":
            await (await place.local()).shutdown()  # it has what it needs for that
        known = set(router.engine.infos)

        async def start():
            await place.local(wait=wait)

        async with world.tasks() as tasks:
            starting = tasks.start(start)
            while set(router.engine.infos) == known:
                await world.rest(0.0001)
            new, = set(router.engine.infos) - known
            child = router.context_by_id(new)
            until(lambda: child.state == "up" and not router.engine.core.channels, "the answer")  # nobody runs here
            starting.cancel()
            if (await starting.wait())[1] == "cancelled":  # without ``wait`` it may have been through already
                until(lambda: child.state == "died", "the end of the child")
            else:
                assert not wait
                await world.api.wrap(child).shutdown()

    world.run(main)


@pytest.mark.parametrize("where", ["here", "below"])
def test_a_cancelled_connect_ends_the_child(world, router, web, where):
    """A child that is not up yet when its start is cancelled: its process is ended, and nothing of it stays."""
    silent = ["sh", "-c", "echo $$ >&2; exec sleep 60"]

    async def main():
        place = world.api.wrap(router if where == "here" else web)
        known = set(router.engine.infos)
        timed_out, _ = await world.within(20, try_it, place, known)
        assert not timed_out

    async def try_it(place, known):
        async with world.tasks() as tasks:
            starting = tasks.start(starter(place))
            while set(router.engine.infos) == known:
                await world.rest(0.001)
            new, = set(router.engine.infos) - known
            assert router.context_by_id(new).state == "connecting"
            starting.cancel()
            assert (await starting.wait())[1] == "cancelled"
            await world.api.wrap(router.context_by_id(new)).wait(20)

    def starter(place):
        async def start():
            await place.local(python=silent)

        return start

    world.run(main)


def test_gather(world, router, web):
    """As the synchronous one: bounded, in order of arrival or of contexts, errors beside results; cancelled with its
    calls."""

    async def main():
        api = world.api
        here = api.wrap(router)
        contexts = [api.wrap(web), *[await here.fork() for _ in range(5)]]
        own = {context: (0.02 * (5 - number),) for number, context in enumerate(contexts)}
        told = []
        results = await api.gather(own, far.nap, concurrency=3, ordered=True, progress=told.append)
        assert list(results) == contexts and results.ok == results
        assert list(results.values()) == [wait for wait, in own.values()]
        assert len(told) == 6
        assert {outcome.context: outcome.value async for outcome in api.gather_iter(contexts, far.me)} == {
            context: context.pid for context in contexts}
        late = await api.gather(contexts[:2], far.nap, 0.2, timeout=0.01)
        assert [type(error) for error in late.errors.values()] == [contextree.CallTimeout] * 2
        with pytest.raises(contextree.UsageError, match="twice"):
            await api.gather(contexts[:1] * 2, far.me)
        with pytest.raises(contextree.UsageError, match="wants contexts"):
            await api.gather([web], far.me)
        assert (await world.within(0.02, api.gather, contexts, far.nap, 30))[0]
        await world.rest(0.01)
        assert router.stats()["router"]["channels"] == 0
        for context in contexts[1:]:
            await context.kill()

    world.run(main)


def test_programs_and_files(world, web, tmp_path):
    """run, put, get: by a thread; what the synchronous handle can do besides is there as well."""

    async def main():
        here = world.api.wrap(web)
        done = await here.run(["tr", "a-z", "A-Z"], input="shout", text=True, check=True)
        assert (done.stdout, done.returncode) == ("SHOUT", 0)
        with pytest.raises(subprocess.TimeoutExpired):
            await here.run(["sleep", "30"], timeout=0.05)
        assert (await here.put(b"content", tmp_path / "there")).size == 7
        await here.get(tmp_path / "there", tmp_path / "here")
        assert (tmp_path / "here").read_bytes() == b"content"
        assert await here.read_bytes(tmp_path / "there") == b"content"
        with pytest.raises(FileNotFoundError):
            await here.get(tmp_path / "nothing", tmp_path / "here")
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            _ = here.nothing
        with pytest.raises(contextree.UsageError, match="not open"):
            _ = world.api.Router().sync
        with pytest.raises(contextree.UsageError, match="thread=False"):
            world.api.Router(thread=False)

    world.run(main)


def test_a_cancelled_program_and_a_cancelled_transfer_end(world, web, tmp_path):
    """The cancellation is real: the program is gone, nothing of the file is in place, the thread has ended."""

    class Endless:
        """A file without end."""

        def read(self, size):
            reading.append(size)
            return b"x" * size

    reading = []
    pid_file = tmp_path / "pid"

    async def main():
        here = world.api.wrap(web)
        async with world.tasks() as tasks:
            running = tasks.start(run, here)
            while not (pid_file.exists() and pid_file.read_text().endswith("\n")):
                await world.rest(0.001)
            program = lab.identity(int(pid_file.read_text()))
            running.cancel()
            assert await running.wait() == (None, "cancelled")
            while lab.alive(program):
                await world.rest(0.001)
            putting = tasks.start(here.put, Endless(), tmp_path / "endless")
            while len(reading) < 5:
                await world.rest(0.001)
            putting.cancel()
            assert await putting.wait() == (None, "cancelled")
            while threads.threads.get(web.engine):
                await world.rest(0.001)
            assert not (tmp_path / "endless").exists()
            assert await here.call(far.add, 1) == 2

    async def run(here):
        await here.run(["sh", "-c", "echo $$ > %s; exec sleep 60" % pid_file])

    world.run(main)
    until(lambda: [path.name for path in tmp_path.iterdir()] == ["pid"], "the rest of the transfer to go away")


def test_everything_ends_though_the_body_was_cancelled(world):
    """A block that is cancelled in the middle of a call: contexts are gone and reaped when it is left."""
    pids, over = [], []

    async def body():
        async with world.api.Router(grace=0.2) as router:
            web = await router.local()
            worker = await web.fork()
            pids.extend(lab.identity(context.pid) for context in (web, worker))
            over.append(router)
            await worker.call(far.nap, 60)

    async def main():
        async with world.tasks() as tasks:
            task = tasks.start(body)
            while not over:
                await world.rest(0.001)
            await world.rest(0.01)
            task.cancel()
            task.cancel()
            assert await task.wait() == (None, "cancelled")
        assert not any(lab.alive(pid) for pid in pids)
        assert over[0].sync.closed

    world.run(main)


def test_an_error_in_the_body_comes_out(world):
    async def main():
        with pytest.raises(KeyError):
            async with world.api.Router() as router, await router.fork():
                raise KeyError("mine")

    world.run(main)


def test_back_pressure_is_awaited(world):
    """While a context takes nothing, who calls it with much waits, and the loop goes on."""

    async def main():
        async with world.api.Router(grace=0.2) as router:
            web = await router.local()
            other = await router.fork()
            assert await other.call(far.add, 1) == 2
            os.kill(web.pid, signal.SIGSTOP)
            lump = b"x" * (1 << 20)
            async with world.tasks() as tasks:
                calls = [tasks.start(web.call, len, lump) for _ in range(20)]
                late = tasks.start(web.call, len, lump)
                while len(router.sync.engine.core.channels) < 15:  # these are let through, at whatever pace
                    assert await other.call(far.add, 1) == 2
                for _ in range(50):
                    assert await other.call(far.add, 1) == 2
                opened = len(router.sync.engine.core.channels)
                assert 15 <= opened < 21, opened
                late.cancel()
                await late.wait()
                os.kill(web.pid, signal.SIGCONT)
                assert [await call.wait() for call in calls] == [(1 << 20, None)] * 20

    world.run(main)
