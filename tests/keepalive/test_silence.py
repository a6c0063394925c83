"""Somebody on the way hangs: it is noticed, whatever the method, and everyone who waits is told."""

import importlib.util
import os
import select
import signal
import subprocess
import sys
import threading
import time

import pytest

import contextree
from contextree.connect.plan import HERE, PYTHON
from tests.keepalive import far, relay
from tests.lab import processes
from tests.lab.network import stop
from tests.lab.poll import until
from tests.loops.worlds import WORLDS

WORDS = "no sign of life for"
NEVER = [sys.executable, "-c", "import sys; sys.stdin.read()"]  # an interpreter that does not speak
DELAY = os.path.join(os.path.dirname(os.path.dirname(__file__)), "bench", "delay.py")


def freeze(context):
    """SIGSTOP its process."""
    return stop(processes.identity(context.pid))


def beat_of(router, context):
    """What the heart knows of a direct child."""
    return next(beat for beat in router.engine.heart.beats if beat.branch.id == context.id)


# -- who hangs: a way to grow the context, and a way to stop something between

def local(router, sshd):
    context = router.local(heartbeat=2)
    return context, freeze


def fork(router, sshd):
    context = router.fork(heartbeat=2)
    return context, freeze


def client(router, sshd):
    """A client that relays, as that of a container does."""
    plan = contextree.Plan([HERE, relay.__file__, PYTHON], "box", "client", python=(sys.executable,))
    context = router.grow(plan, heartbeat=2)
    return context, lambda context: stop(processes.identity(router.engine.children[context.id].process.pid))


def reach(router, sshd):
    return router.ssh("key", ssh_config=sshd.ssh_config, keepalive=1000, heartbeat=2)


def ssh(router, sshd):
    """The ssh program."""
    context = reach(router, sshd)
    return context, lambda context: stop(processes.identity(router.engine.children[context.id].process.pid))


def session(router, sshd):
    """The sshd process that holds the session: its kernel goes on acknowledging."""
    def freeze_sshd(context):
        pid = context.pid
        while "sshd" not in processes.command_line(pid).split(" ")[0]:
            pid = processes.stat(pid)[0]
        return stop(processes.identity(pid))

    return reach(router, sshd), freeze_sshd


def interpreter(router, sshd):
    """The remote interpreter, of which ssh never hears."""
    return reach(router, sshd), freeze


def paramiko(router, sshd):
    """The same, without an ssh program."""
    context = router.ssh("key", ssh_config=sshd.ssh_config, transport="paramiko", keepalive=1000, heartbeat=2)
    return context, freeze


KINDS = [local, fork, client, ssh, session, interpreter, paramiko]


class Hung:
    """One of those who hang: what waits for it, and what is to be ended."""

    def __init__(self, router, sshd, kind):
        self.context, self.freeze_it = kind(router, sshd)
        self.below = self.context.local()
        process = router.engine.children[self.context.id].process
        self.handle = process and processes.identity(process.pid)  # paramiko has none
        self.calls = [each.submit(far.hang) for each in (self.context, self.below)]
        self.pids = [processes.identity(each.pid) for each in (self.context, self.below)]


@pytest.fixture(scope="module")
def hung(sshd):
    """A context that does not hang, and {kind: Hung}: all at the same time, for it takes two seconds to be noticed."""
    with contextree.Router(grace=1.0) as router:
        sibling = router.local()
        found = {kind: Hung(router, sshd, kind) for kind in KINDS
                 if kind is not paramiko or importlib.util.find_spec("paramiko")}
        for each in found.values():
            each.stopped = each.freeze_it(each.context)
        until(lambda: all(each.context.state == "died" for each in found.values()), "all to be noticed", 20)
        for each in found.values():  # what is on the other host: those below it give their calls two seconds
            processes.end([who for who in each.stopped if who != each.handle])
        yield sibling, found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_whoever_hangs(hung, kind):
    sibling, found = hung
    if kind not in found:
        pytest.skip("paramiko is not installed")
    each = found[kind]
    for call, one in zip(each.calls, (each.context, each.below), strict=True):
        error = call.exception(20)
        assert type(error) is contextree.ContextDied and error.context == one.name
        assert WORDS in str(error) and "heartbeat=2" in str(error)
    assert each.context.state == each.below.state == "died"
    assert sibling.call(abs, -1) == 1
    until(lambda: not processes.alive(each.handle), "the process to be ended, though it may be stopped")
    until(lambda: not any(map(processes.alive, each.pids)), "the interpreters to end")


# -- who waits

def test_everyone_who_waits_is_told(router, tmp_path):
    """The tree is stopped at its middle; they wait for it, and for what is below it."""
    between = router.local(name="between")
    middle = between.local(name="middle", heartbeat=2).with_options(threads=20)
    below = middle.local(name="below").with_options(threads=20)
    big = tmp_path / "big"
    big.write_bytes(bytes(1 << 24))
    waits = {}
    for context in (middle, below):
        never, idle, full = [context.channel() for _ in range(3)]
        stream = context.stream(far.numbers, never)
        assert next(stream) == 0
        context.submit(far.hang, full)
        assert full.receive(20) == "running"
        channel = router.channel()
        context.submit(far.echo, idle)
        waiting = context.submit(far.hang, channel)
        assert channel.receive(20) == "running"
        waits.update({
            (context.name, "call"): lambda context=context: context.call(far.hang),
            (context.name, "submit"): waiting.result,
            (context.name, "stream"): lambda stream=stream: list(stream),
            (context.name, "receive"): idle.receive,
            (context.name, "send"): lambda full=full: [full.send(bytes(1 << 20)) for _ in range(100)],
            (context.name, "select"): lambda idle=idle: contextree.select([idle]) and idle.receive(),
            (context.name, "run"): lambda context=context: context.run(["sleep", "600"]),
            (context.name, "put"): lambda context=context: context.put(big, tmp_path / (context.name + ".put")),
            (context.name, "get"): lambda context=context: context.get(big, tmp_path / (context.name + ".got")),
            (context.name, "grow"): lambda context=context: context.local(python=NEVER),
            (context.name, "wait"): lambda context=context: raised(context.wait()),
        })
    futures = [middle.submit(far.hang), below.submit(far.hang)]
    got = {}

    def collect(name, function):
        try:
            got[name] = function()
        except BaseException as error:
            got[name] = error

    early = {name: wait for name, wait in waits.items() if name[1] not in ("put", "get")}
    threads = [threading.Thread(target=collect, args=item) for item in early.items()]
    for thread in threads:
        thread.start()
    until(lambda: len(processes.descendants(middle.pid)) >= 5, "the programs and children that were asked for", 20)
    freeze(middle)
    late = [threading.Thread(target=collect, args=(name, waits[name])) for name in waits if name not in early]
    late.append(threading.Thread(target=collect, args=(("middle", "ping"), middle.ping)))
    for thread in late:  # these end by themselves, so they are asked for when it hangs already
        thread.start()
    for thread in threads + late:
        thread.join(20)
    assert set(got) == set(waits) | {("middle", "ping")}
    for name, error in got.items():
        assert type(error) is contextree.ContextDied, (name, error)
        assert WORDS in str(error), (name, error)
    for future in futures:
        assert WORDS in str(future.exception(20))
    assert between.call(abs, -1) == 1


def raised(error):
    raise error


TWO_WORLDS = [kind for kind in WORLDS if kind.name in ("asyncio", "trio")]


@pytest.mark.parametrize("kind", TWO_WORLDS, ids=lambda kind: kind.name)
def test_tasks_are_told(kind):
    world = kind()

    async def main():
        async with world.api.Router(grace=1.0) as router, world.tasks() as tasks:
            middle = (await router.local(heartbeat=2)).with_options(threads=9)
            below = (await middle.local()).with_options(threads=9)
            waits, kept = [], []
            for context in (middle, below):
                release = context.channel()
                kept.append(release)
                stream = context.stream(far.numbers, release)
                assert await stream.__anext__() == 0
                channel = context.channel()
                waits += [tasks.start(context.call, far.hang, channel), tasks.start(context.wait),
                          tasks.start(all_of, stream), tasks.start(context.run, ["sleep", "600"])]
                assert await channel.receive(20) == "running"
                waits.append(tasks.start(channel.receive))
            ended = [processes.identity(middle.pid), *processes.descendants(middle.pid)]
            freeze(middle)
            for wait in waits:
                result, error = await wait.wait()
                error = error or result  # ``wait`` returns it
                assert type(error) is contextree.ContextDied and WORDS in str(error)
        return ended

    ended = world.run(main)
    until(lambda: not any(map(processes.alive, ended)), "the programs to end", 20)


async def all_of(stream):
    return [item async for item in stream]


def test_without_a_thread():
    """The program drives the loop, and waits."""
    with contextree.Router(thread=False, grace=1.0) as router:
        context = router.local(heartbeat=2)
        freeze(context)
        with pytest.raises(contextree.ContextDied, match=WORDS):
            context.call(far.hang)


# -- who has one

def test_only_who_is_on_another_host_has_one_by_default(router, sshd):
    router.fork(), router.local()
    assert router.engine.heart is None  # nothing runs, nobody is asked
    web = router.ssh("key", ssh_config=sshd.ssh_config)
    assert beat_of(router, web).period * 8 == 60
    never = router.ssh("key", ssh_config=sshd.ssh_config, heartbeat=None)
    assert [beat.branch.id for beat in router.engine.heart.beats] == [web.id] != [never.id]
    mine = router.ssh("key", ssh_config=sshd.ssh_config, heartbeat=7)
    assert beat_of(router, mine).period * 8 == 7


@pytest.mark.parametrize("default", [5, None])
def test_the_router_s_default_goes_down_the_tree(sshd, default):
    config = sshd.ssh_config
    with contextree.Router(heartbeat=default) as router:
        between = router.fork().local()
        between.ssh("password", ssh_config=config, name="a", extra_args=["-l", sshd.key_user])
        between.local(name="b")
        between.local(name="c", heartbeat=3)
        assert between.call(far.periods) == ({"a": 5, "c": 3} if default else {"c": 3})


# -- who must not die of it

def test_who_holds_the_gil_lives_without_one(router, tmp_path):
    path = tmp_path / "go"
    context = router.local()
    beside = router.local(heartbeat=2)
    busy = context.submit(far.stop_and_go, str(path))
    freeze(beside)
    assert WORDS in str(beside.wait(20))  # so time enough has passed
    path.touch()
    assert busy.result(20) is None and context.call(abs, -1) == 1


def test_a_stop_that_is_short_enough(router):
    context = router.local(heartbeat=8)
    freeze(context)
    beat = beat_of(router, context)
    until(lambda: beat.misses >= 3, "three looks at a stopped child", 20)
    late = context.submit(abs, -5)
    os.kill(context.pid, signal.SIGCONT)
    assert late.result(20) == 5
    until(lambda: beat.misses == 0, "the look that finds it alive", 20)


MASTER = """
import os, sys, contextree
if __name__ == "__main__":
    with contextree.Router() as router:
        web = router.local(heartbeat=2)
        below = web.local(heartbeat=2)
        print(web.pid, flush=True)
        sys.stdin.readline()
        print(web.call(os.getppid), below.call(os.getppid), flush=True)
"""


def test_a_master_that_was_stopped_finds_everybody_alive(tmp_path):
    script = tmp_path / "master.py"
    script.write_text(MASTER)
    with subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as master:
        web = processes.identity(int(master.stdout.readline()))
        for _ in range(2):
            os.kill(master.pid, signal.SIGSTOP)
            begin = time.monotonic()
            until(lambda begin=begin: time.monotonic() > begin + 2.5 or not processes.alive(web), "a nap", 30)
            os.kill(master.pid, signal.SIGCONT)
        said, _ = master.communicate("\n", 30)
        assert said.split() == [str(master.pid), str(web[0])]
        assert master.returncode == 0


def test_a_slow_line_is_a_live_one(router, sshd, tmp_path):
    """100 ms there and back, in the key exchange too."""
    config = tmp_path / "config"
    config.write_text("ProxyCommand %s %s 0.05 %s %s --to %%h %%p\nInclude %s\n" % (
        sys.executable, DELAY, sys.executable, relay.__file__, sshd.ssh_config))
    web = router.ssh("key", ssh_config=config, heartbeat=2)
    asked = router.stats()["modules"]["requests"]
    source = tmp_path / "source"
    source.write_text("x")
    web.put(source, "copy-of-it")
    below = web.fork()
    assert web.run(["true"]).returncode == 0
    assert router.stats()["modules"]["requests"] == asked  # each would cost as much as a call; all went ahead
    assert web.ping() >= 0.1 and below.ping() >= 0.1
    assert web.call(len, bytes(1 << 19)) == 1 << 19
    assert below.call(abs, -1) == 1
    beat = beat_of(router, web)
    before = web.state, beat.link.frames_in
    hanging = below.submit(select.select, [], [], [])
    until(lambda: beat.link.frames_in > before[1] + 3, "several answers", 20)
    assert not hanging.done() and web.state == "up"
    web.kill()
