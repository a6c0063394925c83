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
        here = world.api.wrap(local)
        async with world.tasks() as tasks:
            running = tasks.start(lambda: here.run("sleep 1000 & sleep 1000", shell=True, add_env=marked.env))
            while len(marked.pids()) < 3:
                await world.rest(0.02)
            running.cancel()
            assert (await running.wait())[1] == "cancelled"

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


def test_a_handle_of_a_program(world, local):
    """Both ways at once, lines, pieces, text; its end, and what it could not be."""
    async def main():
        here = world.api.wrap(local)
        threads = threading.active_count()
        async with await here.popen(["cat"]) as program, world.tasks() as tasks:
            assert type(program) is world.api.Process and program.returncode is None
            assert program.sync.pid == program.pid and program.args == ["cat"]
            await program.stdin.write(b"first\nsecond\nthi")
            assert [await program.stdout.readline(), await program.stdout.readline()] == [b"first\n", b"second\n"]
            assert await program.stdout.read(2) == b"th"
            assert await program.stdout.read(10) == b"i"
            data = bytes(range(256)) * 20_000

            async def feed():
                await program.stdin.write(data)
                program.stdin.close()

            feeding = tasks.start(feed)
            assert await program.stdout.read() == data
            assert await feeding.wait() == (None, None)
            assert threading.active_count() == threads  # nobody waits but this task
            assert await program.wait(20) == 0 == program.returncode
            assert await program.stdout.read(5) == await program.stdout.readline() == b""
            with pytest.raises(ValueError, match="closed"):
                await program.stdin.write(b"x")
        async with await here.popen("printf 'ein\\r\\nzwei\\nü'; exit 3", shell=True, text=True) as program:
            assert [line async for line in program] == ["ein\n", "zwei\n", "ü"]
            assert await program.wait() == 3
        with pytest.raises(FileNotFoundError):
            await here.popen(["no-such-program"])
        with pytest.raises(contextree.UsageError):
            await here.popen(["true"], stdout=print)
        async with await here.popen(["sleep", "1000"], stdin=subprocess.DEVNULL, stderr=None) as program:
            assert program.stdin is program.stderr is None
            with pytest.raises(subprocess.TimeoutExpired):
                await program.wait(0.01)
            program.terminate()
            assert await program.wait() == -15
        async with await here.popen(["sleep", "1000"], timeout=0.1) as program:
            with pytest.raises(subprocess.TimeoutExpired):
                await program.wait(20)
        async with await here.popen(["sh", "-c", "exec <&-; echo deaf; sleep 1000"]) as program:
            assert await program.stdout.readline() == b"deaf\n"

            async def pour():
                while True:
                    await program.stdin.write(bytes(100_000))

            with pytest.raises(BrokenPipeError):
                await pour()

    world.run(main)


def test_a_cancelled_reader_loses_nothing(world, local):
    async def main():
        async with await world.api.wrap(local).popen(["cat"], text=True) as program:
            for read in (program.stdout.read, program.stdout.readline):
                await program.stdin.write("half a li")
                timed_out, _ = await world.within(0.2, read)
                assert timed_out
                await program.stdin.write("ne\n")
                assert await program.stdout.readline() == "half a line\n"

    world.run(main)


def test_the_end_of_a_handle_is_the_end_of_the_program(world, local, marked):
    """At the end of the block, when its task is cancelled, when nobody has it, and when its start is cancelled."""
    async def main():
        here = world.api.wrap(local)
        async with await here.popen("sleep 1000 & sleep 1000", shell=True, add_env=marked.env):
            pass
        marked.wait(0)

        async def hold():
            async with await here.popen("sleep 1000 & echo up; sleep 1000", shell=True, add_env=marked.env) as program:
                assert await program.stdout.readline() == b"up\n"
                await program.wait()

        async with world.tasks() as tasks:
            holding = tasks.start(hold)
            while len(marked.pids()) < 3:
                await world.rest(0.02)
            holding.cancel()
            assert (await holding.wait())[1] == "cancelled"
        marked.wait(0)
        program = await here.popen("sleep 1000 & echo up; sleep 1000", shell=True, add_env=marked.env)
        assert await program.stdout.readline() == b"up\n"
        del program
        async with world.tasks() as tasks:
            starting = tasks.start(lambda: here.popen(["sleep", "1000"], add_env=marked.env))
            await world.rest()
            starting.cancel()
            assert (await starting.wait())[1] == "cancelled"

    world.run(main)
    marked.wait(0)
