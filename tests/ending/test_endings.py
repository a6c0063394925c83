"""How contexts end when they should, how failed starts end, and Ctrl-C."""

import errno
import os
import select
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import contextree
from contextree.connect.plan import Plan
from contextree.core import first_stage
from tests.ending import far
from tests.lab import processes
from tests.lab.poll import until


def identity(context):
    return processes.identity(context.pid)


# -- shutting down

def test_with_leaves_nothing_and_an_exception_passes_through():
    with pytest.raises(ZeroDivisionError), contextree.Router(grace=0.5) as router:  # noqa: PT012
        context = router.local()
        below = identity(context.fork())
        busy = context.submit(select.select, [], [], [])
        raise ZeroDivisionError
    assert not processes.alive(below)
    assert isinstance(busy.exception(1), contextree.WorldError)
    with pytest.raises(contextree.Closed, match="the router master was closed"):
        context.call(os.getpid)
    with pytest.raises(contextree.Closed):
        router.fork()
    router.close()


def test_mt_08_shutdown_ends_a_subtree_and_nobody_else(router):
    first, second = router.local(name="first"), router.local(name="second")
    below, beside = first.local(), second.fork()
    ended = [identity(first), identity(below)]
    first.shutdown()
    assert not any(processes.alive(who) for who in ended)
    assert first.state == below.state == "died"
    assert set(router.contexts) == {second, beside}
    assert beside.call(sum, [1, 2]) == 3
    first.shutdown()  # again
    below.shutdown()
    with pytest.raises(contextree.ContextDied, match=r"first\.local ended.* it was shut down"):
        below.call(os.getpid)


def test_p_58_shutdown_returns_when_the_child_is_reaped(router):
    context = router.local()
    pid = context.pid
    context.shutdown()
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)
    assert context.wait(1).status.exit_status == 0


def test_who_calls_a_child_that_is_about_to_fail_is_told_why(router, tmp_path):
    """Its link has ended, and how it ended is not known yet: what begins meanwhile waits for that."""
    os.mkfifo(tmp_path / "gate")
    words = 'exec </dev/null >/dev/null; cat "$0"; echo no such thing >&2; exit 3'
    child = router.grow(Plan(["sh", "-c", words, str(tmp_path / "gate")], "failing", "local"), wait=False)
    until(lambda: child.engine.infos[child.id].link.closed, "its link to end")
    calls = [child.submit(os.getpid) for _ in range(3)]
    with ThreadPoolExecutor() as pool:
        calls.append(pool.submit(child.ping))
        (tmp_path / "gate").write_text("open")
        for call in calls:
            with pytest.raises(contextree.ConnectError) as caught:
                call.result(10)
            assert caught.value.output == "no such thing"


def test_force_does_not_wait_for_the_running_call(router):
    context = router.local()
    busy = context.submit(select.select, [], [], [])
    context.ping(5)
    context.shutdown(timeout=60, force=True)
    with pytest.raises(contextree.ContextDied):
        busy.result(1)


def test_the_running_call_may_finish_within_the_timeout(router, tmp_path):
    os.mkfifo(tmp_path / "gate")
    context = router.local()
    answer = context.submit(far.read_gate, str(tmp_path / "gate"))
    with open(tmp_path / "gate", "w") as gate:  # opens when the call has opened its end
        ending = threading.Thread(target=context.shutdown, args=(20,))
        ending.start()
        until(lambda: router.engine.children[context.id].reason, "the shutdown to begin")
        gate.write("late, but in time")
    ending.join()
    assert answer.result(5) == "late, but in time"


def test_s_35_a_frozen_context_far_down_is_killed_in_time():
    """The contexts above it leave within the grace; it must be dead by then, for nobody is left who could kill it."""
    with contextree.Router(grace=1.0) as router:
        frozen = router.local().fork().local()
        who = identity(frozen)
        os.kill(frozen.pid, signal.SIGSTOP)
    until(lambda: not processes.alive(who), "the frozen one to be gone", 1.0)


def test_as_a_context_manager(router):
    with router.fork() as context:
        who = identity(context)
        assert processes.alive(who)
    assert not processes.alive(who)


# -- who waits far away

def test_p_01_to_p_05_callers_beside_and_cousins(router):
    """Callers are the root, a sibling and a cousin of the context that is killed."""
    left, right = router.local(name="left"), router.local(name="right")
    target, sibling, cousin = left.local(name="target"), left.local(name="sibling"), right.local(name="cousin")
    router.grant(sibling, target)
    router.grant(cousin, target)
    gates = [sibling.submit(far.call_for_ever, target), cousin.submit(far.call_for_ever, target),
             target.with_options(threads=4).submit(select.select, [], [], [])]
    until(lambda: target.with_options(threads=9).call(far.count_of_calls) >= 3, "all calls to run")
    os.kill(target.pid, signal.SIGKILL)
    for gate in gates:
        error = gate.exception(10)
        assert type(error) is contextree.ContextDied
        assert "killed by SIGKILL (9)" in str(error)


def test_p_09_closing_while_a_child_connects_is_an_error_of_its_own(router):
    never = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    caught = []

    def grow():
        try:
            router.local(python=never)
        except contextree.ContextreeError as error:
            caught.append(error)

    thread = threading.Thread(target=grow)
    thread.start()
    until(lambda: router.engine.children, "the child to be started")
    router.close(0.2)
    thread.join(10)
    assert type(caught[0]) is contextree.CallCancelled
    assert "starting local was cancelled: it was shut down" in str(caught[0])


def test_p_08_everything_after_the_end_raises(router):
    context = router.fork()
    router.close()
    for use in (router.fork, router.local, lambda: context.submit(os.getpid), lambda: context.ping(1),
                lambda: context.stream(range, 3), lambda: router.broker.defer(print)):
        with pytest.raises(contextree.Closed):
            use()
    context.shutdown()


# -- starts that fail

def test_p_51_a_start_that_takes_too_long_is_killed_and_reaped(router):
    silent = [sys.executable, "-c", "import signal; signal.pause()"]
    plan = contextree.Plan(silent, "slow", "test", phases={"connect": 0.3})
    with pytest.raises(contextree.ConnectTimeout, match=r"slow, from master, phase connect: it took more than 0\.3 s"):
        router.grow(plan)
    until(lambda: not processes.descendants(os.getpid()), "the process to be reaped")
    assert router.contexts == []


@pytest.mark.parametrize("why", ["time", "exit", "shutdown"])
@pytest.mark.parametrize("deep", [False, True])
def test_p_51_what_a_failed_start_has_started_ends_with_it(router, tmp_path, deep, why):
    """A shell that waits for a command, as wrappers do: TERM ends the shell alone."""
    parent = router.local() if deep else router
    os.mkfifo(tmp_path / "pids")
    leave = "trap '' HUP TERM; sleep 600 & echo $! >%s; %s" % (tmp_path / "pids", "exit 4" if why == "exit" else "wait")
    wrapper = ["sh", "-c", "(%s); exit 5" % leave]
    failed = []

    def grow():
        try:
            parent.local(python=wrapper, connect_timeout=0.5 if why == "time" else 30)
        except contextree.ContextreeError as error:
            failed.append(error)

    thread = threading.Thread(target=grow)
    thread.start()
    with open(tmp_path / "pids") as pids:
        left = processes.identity(int(pids.readline()))
    if why == "shutdown":
        until(lambda: len(router.contexts) > deep, "it to be known")
        router.contexts[-1].shutdown(0.1)
    thread.join(20)
    assert type(failed[0]) is {"time": contextree.ConnectTimeout, "exit": contextree.ConnectError,
                               "shutdown": contextree.CallCancelled}[why]
    until(lambda: not processes.alive(left), "what it had started to be gone")
    assert deep == len(router.contexts)


@pytest.mark.parametrize("method", ["fork", "local"])
@pytest.mark.parametrize("how", ["idle", "busy", "by itself"])
def test_s_35_what_a_context_has_started_ends_when_it_is_ended(router, method, how):
    """What is in its group, at least. A context that ends by itself leaves it, as processes do."""
    context = getattr(router, method)()
    left = processes.identity(context.call(far.start_sleeper))
    if how == "by itself":
        context.submit(os._exit, 0)
        context.wait(10)
        assert processes.alive(left)
        os.kill(left[0], signal.SIGKILL)
        return
    if how == "busy":
        context.submit(select.select, [], [], [])
        context.ping(5)
    context.shutdown(0.2)
    until(lambda: not processes.alive(left), "what it had started to be gone")


def test_p_52_the_error_has_the_last_lines(router):
    with pytest.raises(contextree.ConnectError, match="ended with status 5") as caught:
        router.local(python=["sh", "-c", "for i in 1 2 3; do echo line $i; echo error $i >&2; done; exit 5"])
    assert caught.value.status == 5
    assert "line 3" in caught.value.output and "error 3" in caught.value.output


def test_p_53_a_command_that_is_not_there(router):
    via = router.local()
    for parent in (router, via):
        with pytest.raises(contextree.ConnectError, match=os.strerror(errno.ENOENT)) as caught:
            parent.local(python="/no/such/python")
        assert caught.value.phase == "start"
    assert via.call(sum, [1, 1]) == 2


def test_p_54_inherited_descriptors_do_not_keep_a_failed_start_open(router):
    """Somebody below the command keeps its stdin, stdout and stderr; the command itself has ended."""
    via = router.local()
    for parent in (router, via):
        with pytest.raises(contextree.ConnectError, match="status 6") as caught:
            parent.local(python=["sh", "-c", "setsid sleep 20 & echo $! >&2; exit 6"])
        os.kill(int(caught.value.output.split()[-1]), signal.SIGKILL)


def first_stage_process(**options):
    return subprocess.Popen([sys.executable, "-c", first_stage.text()], stdout=subprocess.DEVNULL, **options)


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\1\0", b"\0\0\1\0abc"])
def test_p_55_the_first_stage_ends_when_its_input_does(data):
    with first_stage_process(stdin=subprocess.PIPE) as child:
        child.stdin.write(data)
        child.stdin.close()
        assert child.wait(10) == 90


def test_p_56_the_first_stage_takes_an_input_that_does_not_block():
    read, write = os.pipe()
    os.set_blocking(read, False)
    try:
        with first_stage_process(stdin=read) as child:
            until(lambda: "poll" in syscall(child.pid) or "select" in syscall(child.pid), "it to wait for input")
            os.close(write)
            write = -1
            assert child.wait(10) == 90
    finally:
        os.close(read)
        if write >= 0:
            os.close(write)


def syscall(pid):
    """The name of the kernel function that a process waits in."""
    with open("/proc/%d/wchan" % pid) as file:
        return file.read()


# -- Ctrl-C

def press(when):
    """SIGINT for this process as soon as ``when()`` is true."""
    def watch():
        until(when, "the moment for Ctrl-C")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def waits_in(function):
    """True while the main thread sleeps, at the bottom, in a call of ``function``."""
    frame = sys._current_frames()[threading.main_thread().ident]
    asleep = frame.f_code.co_filename.endswith(("core/process.py", "threading.py", "core/mailbox.py"))
    while frame is not None and frame.f_code is not function.__code__:
        frame = frame.f_back
    return asleep and frame is not None


@pytest.mark.parametrize("what", ["call", "result", "stream", "ping", "shutdown", "start", "wait"])
def test_p_75_ctrl_c_while_waiting(router, what):
    mid = router.local()
    context = mid.local()
    uses = {
        "call": lambda: context.call(select.select, [], [], []),
        "result": lambda: context.submit(select.select, [], [], []).result(),
        "stream": lambda: list(context.stream(far.one_then_wait)),
        "ping": lambda: context.ping(None),
        "shutdown": lambda: context.shutdown(4),
        "start": lambda: router.local(python=[sys.executable, "-c", "import sys; sys.stdin.read()"]),
        "wait": lambda: context.wait(None),
    }
    if what == "ping":
        os.kill(context.pid, signal.SIGSTOP)
        until(lambda: processes.stat(context.pid)[1] == "T", "it to be stopped")
    if what == "shutdown":
        pool = context.with_options(threads=9)
        context.submit(select.select, [], [], [])
        until(lambda: pool.call(far.count_of_calls), "the call to run")
    thread = press(lambda: waits_in(uses[what]))
    with pytest.raises(KeyboardInterrupt):
        uses[what]()
    thread.join()
    router.grace = 0.5
    assert mid.call(sum, [1, 2]) == 3
    until(lambda: router.stats()["router"]["channels"] <= 1, "its channel to be forgotten")
    assert router.local().call(sum, [1, 3]) == 4


def test_a_callback_of_a_future_is_called_at_the_end_of_the_loop(router):
    """The first callback of all: the thread for callbacks was refused then, and so were all who waited behind it."""
    context = router.local()
    futures = [context.submit(select.select, [], [], []) for _ in range(3)]
    told, threads = [], []
    for future in futures:
        future.add_done_callback(lambda future: (threads.append(threading.get_ident()), told.append(future)))
    loop = router.broker.thread
    router.broker.stop()
    until(lambda: len(told) == 3, "the callbacks")
    assert set(told) == set(futures) and loop not in threads
    assert all(type(each.exception(1)) is contextree.Closed for each in futures)


def test_p_06_the_end_of_the_loop_aborts_all_who_wait(router):
    """Callers of every kind wait here, for contexts near and far, when the loop ends; each is told, none is left."""
    near = router.local(name="near")
    far_away = near.local(name="far")
    never = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    frozen, stopped = router.local(name="frozen"), near.local(name="stopped")
    for context in (frozen, stopped):
        os.kill(context.pid, signal.SIGSTOP)
    caught, threads = {}, []
    futures = [each.submit(select.select, [], [], []) for each in (near, far_away)]
    called = threading.Event()
    futures[0].add_done_callback(lambda future: called.set())
    stream = far_away.with_options(threads=2).stream(far.one_then_wait)
    assert next(stream) == 1

    def wait(name, function):
        try:
            caught[name] = function()
        except BaseException as error:
            caught[name] = error

    waits = {
        "call": lambda: near.call(select.select, [], [], []), "below": lambda: far_away.call(select.select, [], [], []),
        "result": futures[0].result, "as completed": lambda: futures[1].exception(30), "stream": lambda: next(stream),
        "grow": lambda: router.local(python=never), "grow below": lambda: near.local(python=never),
        "wait": near.wait, "wait below": far_away.wait, "shutdown": lambda: frozen.shutdown(30), "ping": frozen.ping,
        "ping below": stopped.ping,
        "threaded": lambda: far_away.with_options(threads=9).call(select.select, [], [], []),
    }
    for item in waits.items():
        threads.append(threading.Thread(target=wait, args=item))
        threads[-1].start()
    until(lambda: len(router.contexts) == 6 and len(router.engine.core.channels) >= 7
          and len(router.engine.core.pings) == 2 and len(router.engine.watchers) == 3, "all of them to wait")
    router.broker.stop()
    for thread in threads:
        thread.join(20)
    assert set(caught) == set(waits)
    wrong = {name: error for name, error in caught.items() if not isinstance(error, contextree.ContextreeError)}
    assert not wrong
    assert all(type(each.exception(1)) is contextree.Closed for each in futures) and called.wait(10)


def test_who_waits_in_vain_leaves_nothing_behind(router):
    context = router.fork()
    for _ in range(50):
        with pytest.raises(contextree.CallTimeout):
            context.wait(0.001)
    until(lambda: not router.engine.watchers.get(context.id), "the waiters to leave")
    context.kill()
    assert "it was shut down" in str(context.wait(1))


def test_once_the_end_has_begun_nothing_grows(tmp_path):
    """What was forked behind the back of close() was nobody's: its template and descriptors stayed behind."""
    router = contextree.Router(grace=5)
    held = router.fork()
    call = held.submit(far.hold, str(tmp_path / "gate"))
    until((tmp_path / "gate.held").exists, "the call to start")
    closer = threading.Thread(target=router.close)
    closer.start()
    until(lambda: router.engine.core.closed, "the end to begin")
    for grow in router.fork, router.local:
        with pytest.raises(contextree.Closed, match="was closed"):
            grow()
    (tmp_path / "gate").touch()
    closer.join(20)
    assert call.done() and not closer.is_alive()
