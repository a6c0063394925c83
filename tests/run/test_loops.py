"""Programs, awaited in every kind of event loop: results, deadlines, cancellation, output as it comes."""

import subprocess
import threading
import time

import pytest

import contextree
from tests.loops.worlds import WORLDS

pytestmark = pytest.mark.leaks("threads that trio keeps, and the one that calls back into loops")


@pytest.fixture(params=WORLDS, ids=[kind.name for kind in WORLDS])
def world(request):
    """One kind of event loop."""
    return request.param()


def test_results_and_errors(world, local):
    async def main():
        here = world.api.wrap(local)
        done = await here.run("cat; echo err >&2; exit 3", shell=True, input=b"x" * 200_000)
        assert (done.returncode, len(done.stdout), done.stderr) == (3, 200_000, b"err\n")
        with pytest.raises(FileNotFoundError):
            await here.run(["no-such-program"])
        with pytest.raises(subprocess.CalledProcessError):
            await here.run(["false"], check=True)
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            await here.run("echo begun; sleep 1000", shell=True, timeout=0.3)
        assert caught.value.stdout == b"begun\n"
        with pytest.raises(contextree.WouldBlockLoop):
            local.run(["true"])
        with pytest.raises(contextree.WouldBlockLoop):
            local.popen(["true"])

    world.run(main)


def test_output_as_it_comes_in_this_very_thread_and_others_run_meanwhile(world, local):
    threads, sizes, ticks = set(), [], []

    def take(data):
        threads.add(threading.get_ident())
        sizes.append(len(data))

    async def tick():
        while True:
            ticks.append(time.monotonic())
            await world.rest(0.001)

    async def main():
        async with world.tasks() as tasks:
            ticking = tasks.start(tick)
            done = await world.api.wrap(local).run(["head", "-c", "100000000", "/dev/zero"], stdout=take)
            assert done.returncode == 0
            ticking.cancel()
            assert await ticking.wait() == (None, "cancelled")

    before = threading.active_count()
    world.run(main)
    assert (threads, sum(sizes)) == ({threading.get_ident()}, 100_000_000)
    assert len(ticks) > 5
    assert threading.active_count() <= before + 1


def test_a_cancel_ends_the_program(world, local, marked):
    async def main():
        timed_out, _ = await world.within(1, lambda: world.api.wrap(local).run(
            "sleep 1000 & sleep 1000", shell=True, add_env=marked.env))
        assert timed_out

    world.run(main)
    marked.wait(0)


def test_many_at_once(world, local):
    async def main():
        here, results = world.api.wrap(local), {}

        async def one(number):
            results[number] = (await here.run(["echo", str(number)], text=True)).stdout

        async with world.tasks() as tasks:
            started = [tasks.start(one, number) for number in range(50)]
            for task in started:
                assert (await task.wait())[1] is None
        assert results == {number: "%d\n" % number for number in range(50)}

    world.run(main)
