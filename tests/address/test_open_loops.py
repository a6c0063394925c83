"""``open`` in event loops: hops are shared by tasks, a cancelled one leaves nothing."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import contextree
from tests.lab.poll import until

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "local:?name=a/local:?name=b/fork"


def run_asyncio(main):
    return asyncio.run(main())


async def both_asyncio(*functions):
    return await asyncio.gather(*(function() for function in functions))


async def both_trio(*functions):
    found = [None] * len(functions)

    async def one(place):
        found[place] = await functions[place]()

    async with trio.open_nursery() as nursery:
        for place in range(len(functions)):
            nursery.start_soon(one, place)
    return found


@pytest.mark.parametrize(("run", "door", "both"), [
    (run_asyncio, "aio", both_asyncio), (trio.run, "trio", both_trio)], ids=["asyncio", "trio"])
def test_tasks_share_hops_and_errors_say_where(run, door, both):
    async def main():
        async with getattr(contextree, door).Router() as router:
            ends = await both(*[lambda: router.open(ADDRESS)] * 5)
            assert len({end.parent.id for end in ends}) == 1 and len({end.id for end in ends}) == 5
            assert ends[0].name.startswith("a.b.fork.") and ends[0].address == "local:/local:/fork:"
            assert await ends[0].call(abs, -1) == 1
            with pytest.raises(contextree.ConnectError, match=r"hop 2 of 2 \(local:/no/such at a\)"):
                await router.open("local:?name=a/local:/no/such")
            assert (await ends[0].parent.open("local", name="c")).name == "a.b.c"

    run(main)


def test_a_cancelled_open_ends_what_it_opened_and_lets_others_have_the_hop(tmp_path):
    wait = "while [ ! -e %s/go ]; do sleep 0.05; done; exec %s \"$@\"" % (tmp_path, sys.executable)
    slow = ["local:?name=top", "local:?name=slow&python=sh&python=-c&python=%s&python=x" % wait, "fork"]

    async def main():
        async with contextree.aio.Router() as router:
            first = asyncio.ensure_future(router.open(slow))
            await asyncio.to_thread(until, lambda: len(router.contexts) == 2, "the second hop to begin")
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            await asyncio.to_thread(until, lambda: not router.contexts, "all of it to end")
            first, second = (asyncio.ensure_future(router.open(slow)) for _ in range(2))
            await asyncio.to_thread(until, lambda: len(router.contexts) == 2, "it to begin again")
            first.cancel()  # the second, which waits for it, begins anew then
            (tmp_path / "go").touch()
            assert await (await second).call(abs, -1) == 1

    asyncio.run(main())


GREENS = {
    "gevent": "jobs = [gevent.spawn(router.open, %r) for _ in range(4)]; ends = [job.get() for job in jobs]",
    "cothread": "ends = cothread.WaitForAll([cothread.Spawn(router.open, %r) for _ in range(4)])",
}


@pytest.mark.parametrize("door", sorted(GREENS))
def test_greenlets_share_hops(door):
    program = ("import %s, contextree\nwith contextree.%s.Router() as router:\n    %s\n"
               "    print(len(ends), len({end.parent.id for end in ends}), ends[0].call(abs, -7))\n")
    done = subprocess.run([sys.executable, "-c", program % (door, door, GREENS[door] % ADDRESS)], cwd=ROOT, timeout=50,
                          capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (0, "4 1 7\n"), done.stderr
