"""Jobs by other doors: event loops, the command line."""

import asyncio
import os
import subprocess
import sys

import pytest
import trio

import contextree
from tests.jobs.conftest import gone
from tests.lab import processes
from tests.lab.poll import until
from tests.lab.pythons import ROOT


@pytest.mark.parametrize(("api", "run"), [("aio", asyncio.run), ("trio", trio.run)])
def test_awaited(alone, go, api, run):
    async def main():
        async with getattr(contextree, api).Router() as router:
            there, = await router.jobs()
            assert there.alive and not there.held and there.pid == alone.who[0] and not await there.done()
            with pytest.raises(contextree.AuthenticationError):
                await router.attach("A" * 32 + alone.token[32:])
            job = await router.attach(contextree.Secret(alone.token), name="mine")
            kept = await job.job()
            assert job.name == "mine" and job.pid == kept.pid and "JobCall" in repr(kept.calls[0])
            with pytest.raises(contextree.CallTimeout):
                await kept.calls[0].result(0.05)
            go.touch()
            assert await kept.result(10) == [1, job.pid] and [line async for line in kept.follow(10)][1:] == ["done 1"]
            assert (await kept.output(None)).endswith(b"\ndone 1\n") and await kept.done()
            assert (await job.detach(keep=True)).reveal() == alone.token
            with pytest.raises(contextree.WouldBlockLoop):
                job.sync.job()
            await job.shutdown()
            assert await router.jobs() == []

    run(main if api == "trio" else main())
    assert gone(alone)


def command(*args):
    return subprocess.run([sys.executable, "-m", "contextree", *args], env=dict(os.environ, PYTHONPATH=str(ROOT)),
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def test_the_command_line(alone, go, router):
    done = command("jobs", "local:")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("local: work, process %d on " % alone.who[0])
    assert first.endswith("alone: " + alone.directory) and second == "    1 tests.jobs.far.busy: running"
    go.touch()
    until(lambda: router.jobs()[0].done, "the call to end")
    processes.end([alone.who])
    done = command("jobs", "--output", "--remove", "local:")
    assert ", dead: " in done.stdout and done.stdout.splitlines()[1:] == ["    1 tests.jobs.far.busy: done",
                                                                           "    | done 1"]
    assert command("jobs", "local:").stdout == "" and not os.path.exists(alone.directory)

