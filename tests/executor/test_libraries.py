"""The executor where libraries take one: asyncio, dask, joblib."""

import asyncio
import os
import subprocess
import sys

import dask
import dask.bag
import joblib
import pytest

import contextree
import contextree.joblib
from tests.executor import functions as f


def test_asyncio(pair):
    async def main(executor):
        loop = asyncio.get_running_loop()
        found = await asyncio.gather(*[loop.run_in_executor(executor, f.add, number) for number in range(500)])
        with pytest.raises(ValueError, match="no"):
            await loop.run_in_executor(executor, f.fail, ValueError, "no")
        with pytest.raises(contextree.WorkerDied):
            await loop.run_in_executor(executor, f.die)
        with contextree.Executor(1) as own:
            return found, await loop.run_in_executor(own, os.getpid)

    with contextree.Executor(pair) as executor:
        found, pid = asyncio.run(main(executor))
    assert found == list(range(1, 501)) and pid not in [os.getpid(), *[context.pid for context in pair]]


def test_asyncio_cancels_what_has_not_begun(pair, gate, tmp_path):
    async def main(executor):
        loop = asyncio.get_running_loop()
        held = loop.run_in_executor(executor, f.hold, str(gate))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.run_in_executor(executor, f.note, str(tmp_path / "ran")), 0.05)
        gate.touch()
        await held

    with contextree.Executor(pair[:1]) as executor:
        asyncio.run(main(executor))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_dask(pair, scheduler):
    with contextree.Executor(pair) as executor, dask.config.set(scheduler=scheduler, pool=executor):
        pids = dask.compute(*[dask.delayed(f.pid)(number) for number in range(50)])
        assert set(pids) <= {context.pid for context in pair}
        total = dask.delayed(sum)([dask.delayed(f.add)(number) for number in range(20)])
        assert total.compute() == 210
        assert dask.bag.from_sequence(range(100), npartitions=10).map(f.add).sum().compute() == 5050
        if scheduler == "processes":  # the other one sends tracebacks, which pickle where ``tblib`` is installed alone
            with pytest.raises(ValueError, match="no"):
                dask.delayed(f.fail)(ValueError, "no").compute()


def test_joblib(pair):
    pids = {context.pid for context in pair}
    with contextree.Executor(pair) as executor, joblib.parallel_config("contextree", executor=executor):
        assert joblib.Parallel()(joblib.delayed(f.add)(number) for number in range(300)) == list(range(1, 301))
        assert set(joblib.Parallel(n_jobs=2)(joblib.delayed(f.pid)() for number in range(50))) <= pids
        assert set(joblib.Parallel(n_jobs=2)(joblib.delayed(lambda: os.getpid() + 0)() for _ in range(5))) <= pids
        with pytest.raises(ValueError, match="no"):
            joblib.Parallel(n_jobs=2)(joblib.delayed(f.fail)(ValueError, "no") for _ in range(5))
        lazily = joblib.Parallel(n_jobs=2, return_as="generator")(joblib.delayed(f.add)(each) for each in range(20))
        assert list(lazily) == list(range(1, 21))
        assert executor.submit(f.add, 1).result(20) == 2


def test_joblib_with_workers_of_its_own():
    with joblib.parallel_config("contextree", n_jobs=2):
        pids = joblib.Parallel()(joblib.delayed(f.pid)() for number in range(20))
    assert os.getpid() not in pids and 1 <= len(set(pids)) <= 2


GREENLETS = """
from gevent import monkey; monkey.patch_all()
import gevent, time
import contextree, contextree.gevent
from tests.executor import functions as f
contextree.gevent.install()
ticks = []

def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0.005)

with contextree.Executor(2) as executor:
    assert sum(executor.map(f.add, range(1000))) == 500500
    ticker = gevent.spawn(tick)
    gevent.joinall([gevent.spawn(executor.submit(time.sleep, 0.3).result) for _ in range(2)], raise_error=True)
    during = len(ticks)
    assert isinstance(executor.submit(f.die).exception(), contextree.WorkerDied)
    assert executor.submit(f.add, 1).result() == 2
    executor.submit(time.sleep, 0.3)
    before = len(ticks)
    executor.shutdown()
    print(during > 10, len(ticks) - before > 10)
    ticker.kill()
"""


def test_in_a_program_of_greenlets_the_others_run_meanwhile():
    done = subprocess.run([sys.executable, "-c", GREENLETS], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True True\n", "")
