"""What ends a program, and that nothing of it is left: deadlines, signals, callers that go away, contexts that end."""

import contextlib
import os
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import contextree
from tests.ending.conftest import Program
from tests.lab.poll import until
from tests.run import far

STUBBORN = "trap '' TERM; sleep 1000 & (trap '' TERM; sleep 1001 & sleep 1002) & echo ready; while :; do sleep 1; done"
FAMILY = "sleep 1000 & (sleep 1001 & sleep 1002) & echo ready; sleep 1003"


@pytest.mark.parametrize("script", [FAMILY, STUBBORN], ids=["family", "stubborn"])
def test_s_35_a_deadline_ends_the_whole_group(local, fds, marked, script):
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        local.run(script, shell=True, timeout=0.5, grace=0.3, add_env=marked.env)
    assert (caught.value.cmd, caught.value.timeout, caught.value.stdout) == (script, 0.5, b"ready\n")
    assert not marked.pids()


def test_s_35_who_is_stopped_is_ended_too(local, fds, marked):
    with pytest.raises(subprocess.TimeoutExpired):
        local.run("sleep 1000 & kill -STOP $$", shell=True, timeout=0.3, add_env=marked.env)
    assert not marked.pids()


def test_a_grace_of_zero_kills_at_once(local, fds, marked):
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        local.run("trap 'echo cleaning' TERM; echo ready; sleep 1000", shell=True, timeout=0.5, grace=0,
                  add_env=marked.env)
    assert caught.value.stdout == b"ready\n"
    assert not marked.pids()


def test_term_comes_first_and_what_it_causes_is_in_the_output(local, fds):
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        local.run("trap 'echo cleaned; sleep 0.3; exit' TERM; echo ready; sleep 1000 & wait", shell=True, timeout=0.5,
                  grace=10)
    assert caught.value.stdout == b"ready\ncleaned\n", "and it comes once, though both ends keep the time"


def test_who_leaves_the_session_is_not_seen_and_not_waited_for(local, fds, marked):
    """It holds stdout, so it is waited for (as by subprocess) until the deadline, and lives on."""
    with pytest.raises(subprocess.TimeoutExpired):
        local.run("setsid sleep 1000 & echo started", shell=True, timeout=0.5, add_env=marked.env)
    assert len(marked.pids()) == 1


def test_a_daemon_that_keeps_stdout(local, fds, marked):
    daemon = "sleep 1000 & echo started"
    done = local.run(daemon, shell=True, until="exit", add_env=marked.env)
    assert (done.returncode, done.stdout) == (0, b"started\n")
    assert len(marked.pids()) == 1, "it was not to be ended"
    done = local.run("sleep 1001 >/dev/null 2>&1 & echo started", shell=True, add_env=marked.env)
    assert (done.returncode, done.stdout) == (0, b"started\n"), "its own stdout: as subprocess"
    assert len(marked.pids()) == 2
    big = local.run("head -c 60000 /dev/zero; sleep 1000 &", shell=True, until="exit", add_env=marked.env)
    assert len(big.stdout) == 60000, "what was written before the end is not lost"


def test_the_deadline_of_with_options(local, fds):
    with pytest.raises(subprocess.TimeoutExpired):
        local.with_options(timeout=0.2).run(["sleep", "1000"])
    assert local.with_options(timeout=0.2).run(["true"], timeout=50).returncode == 0


def test_an_input_that_nobody_reads_does_not_hold_up_the_deadline(local, fds, marked):
    def endless():
        while True:
            yield b"x" * 100_000

    with pytest.raises(subprocess.TimeoutExpired):
        local.run(["sleep", "1000"], input=endless(), timeout=0.5, add_env=marked.env)
    assert not marked.pids()


def test_an_output_function_that_fails_ends_the_program(local, fds, marked):
    def fails(data):
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        local.run("yes & sleep 1000", shell=True, stdout=fails, add_env=marked.env)
    marked.wait(0)


def test_an_input_that_fails_ends_the_program(local, fds, marked):
    def fails():
        yield b"first"
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        local.run("cat; sleep 1000", shell=True, input=fails(), add_env=marked.env)
    marked.wait(0)


def test_max_output_ends_the_program(local, fds, marked):
    said = r"echo some' in local wrote more than 100000 bytes to its stderr"
    with pytest.raises(contextree.OutputTooLarge, match=said) as e:
        local.run("yes >&2 & echo some", shell=True, max_output=100_000, add_env=marked.env)
    assert (e.value.cmd, e.value.stdout, len(e.value.stderr)) == ("yes >&2 & echo some", b"some\n", 100_000)
    marked.wait(0)
    assert len(local.run(["head", "-c", "1000", "/dev/zero"], max_output=1000).stdout) == 1000


def test_p_75_ctrl_c_ends_the_program(local, fds, marked):
    def interrupt(data):
        threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        local.run("echo ready; sleep 1000", shell=True, stdout=interrupt, add_env=marked.env)
    marked.wait(0)


@pytest.mark.leaks("a service thread of the root that runs the future's callback")
def test_a_caller_that_ends_takes_its_program_along(router, local, marked):
    """A context runs a program in another one, by grant, and dies."""
    with router.local(name="caller") as caller:
        router.grant(caller, local)
        future = caller.submit(far.run_elsewhere, local, ["env"] + ["%s=%s" % item for item in marked.env.items()]
                               + ["sleep", "1000"])
        marked.wait(1)
        os.kill(caller.pid, signal.SIGKILL)
        marked.wait(0)
        with pytest.raises(contextree.ContextDied):
            future.result(20)


def test_a_context_that_ends_takes_its_programs_along(router, marked):
    for end in (lambda context: context.shutdown(), lambda context: context.shutdown(0.5)):
        context = router.local(name="short-lived")
        failures = []

        def run(script, context=context, failures=failures):
            try:
                context.run(script, shell=True, add_env=marked.env)
            except contextree.ContextDied as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(script,)) for script in (FAMILY, STUBBORN)]
        for thread in threads:
            thread.start()
        until(lambda: len(marked.pids()) >= 8, "the programs")
        end(context)
        marked.wait(0)
        for thread in threads:
            thread.join(10)
        assert len(failures) == 2


@pytest.mark.leaks("the template of the module's root, which starts with the first fork")
def test_a_program_that_is_just_being_started_when_its_context_ends(router, marked):
    """At whatever moment the end comes: before the start, in the middle of it, after it."""
    for number in range(20):
        context = router.fork()
        errors = []

        def run(context=context, errors=errors):
            try:
                context.run(["sleep", "1000"], add_env=marked.env)
            except contextree.ContextreeError as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        threading.Event().wait(number / 2000)  # sleeps: the moment is what is varied
        context.shutdown(1)
        thread.join(20)
        assert len(errors) == 1
    marked.wait(0)


def test_a_master_that_is_killed_takes_all_programs_along(tmp_path, sshd, marked):
    """Their contexts notice that the link is lost."""
    text = ("import contextree, sys, threading\n"
            "router = contextree.Router()\n"
            "for context in (router.local(), router.fork(), router.local(via=router.fork()),\n"
            "                router.ssh('key', ssh_config=sys.argv[1])):\n"
            "    threading.Thread(target=context.run, args=(sys.argv[2],), kwargs={'shell': True, 'add_env': "
            "dict([sys.argv[3:5]])}).start()\n"
            "print('started', flush=True)\nsys.stdin.read()\n")
    program = Program(tmp_path / "program.py", text, sshd.ssh_config, FAMILY, *next(iter(marked.env.items())))
    try:
        assert program.line() == "started"
        until(lambda: len(marked.pids()) >= 4 * 5, "the programs")
        program.process.kill()
        marked.wait(0)
        program.ended(10)
    finally:
        for stream in (program.process.stdin, program.process.stdout, program.process.stderr):
            stream.close()


def test_a_context_that_is_killed(router, marked):
    """Nobody is left there who could end it but the watchman."""
    context = router.local(name="killed")
    with context.popen(FAMILY, shell=True, add_env=marked.env) as process:
        assert process.stdout.readline() == b"ready\n"
        os.kill(context.pid, signal.SIGKILL)
        with pytest.raises(contextree.ContextDied):
            process.wait(20)
        with pytest.raises(contextree.ContextDied):
            process.stdout.read()
    marked.wait(0)


def test_a_hundred_at_once_and_the_main_thread_is_free(local, fds):
    """No thread there is kept by a program, and calls go on."""
    count = 100
    with ThreadPoolExecutor(count) as pool:
        started = threading.Barrier(count + 1)

        def one(number):
            with local.popen(["cat"]) as process:
                started.wait(50)
                process.stdin.write(b"%d" % number)
                process.stdin.close()
                return int(process.stdout.read()), process.wait(50)

        futures = [pool.submit(one, number) for number in range(count)]
        started.wait(50)
        assert local.call(os.getpid) == local.pid
        assert sorted(future.result(50) for future in futures) == [(number, 0) for number in range(count)]
        done = list(pool.map(lambda number: local.run(["echo", str(number)]).stdout, range(count)))
        assert done == [b"%d\n" % number for number in range(count)]


def test_statuses_of_other_children_are_nobody_elses(local, fds):
    """A program that ends does not take the status of one that the context's own code started, nor the other way."""
    assert local.call(far.own_child, local.run(["true"]).returncode) == [3, 0]


def test_a_status_that_is_stolen_is_an_error_and_not_a_zero(router):
    with router.local(name="thief") as thief:
        process = thief.popen(["cat"])
        thief.call(far.steal_statuses)
        process.stdin.close()
        remembered = [int(part) for part in os.uname().release.split(".")[:2]] >= [6, 15]
        with pytest.raises(contextree.UncleanExit, match="lost") if not remembered else contextlib.nullcontext():
            assert process.wait(20) == 0, "the kernel remembers it (Linux 6.15)"
        process.end()


def test_the_number_of_a_group_that_is_gone_is_not_signalled(local):
    """The program has ended and was reaped; what holds its stdout has left its group: there is nobody to end."""
    with local.popen("setsid sleep 0.5 & exit", shell=True) as process:
        assert process.wait(20) == 0
        process.send_signal(signal.SIGTERM)
        process.kill()
        assert process.stdout.read() == b""


def test_signals(local, fds):
    script = "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done"
    with local.popen(script, shell=True, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR1, group=False)
        assert process.stdout.readline() == "usr1\n"
        assert process.poll() is None
        process.terminate()
        assert process.wait(20) == process.returncode == process.poll() == -signal.SIGTERM
        process.terminate()
        process.kill()


def test_a_handle_that_nobody_has_ends_its_program(local, fds, marked):
    process = local.popen(["sleep", "1000"], add_env=marked.env)
    out = process.stdout
    del process
    marked.wait(1)
    del out
    marked.wait(0)


def test_wait_and_poll(local, fds):
    with local.popen(["cat"]) as process:
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05)
        process.stdin.close()
        assert process.wait(20) == 0 == process.wait(0)
    with local.popen(["sleep", "1000"], timeout=0.3) as process:
        assert process.stdout.read() == b""
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(20)
    with pytest.raises(FileNotFoundError):
        local.popen(["no-such-program"])


def test_a_forked_child_of_the_caller_harms_nothing(local, fds):
    """What is inherited refuses to work, and its end is not the program's."""
    with local.popen(["cat"]) as process:
        pid = os.fork()
        if not pid:
            code = 1
            try:
                process.wait(1)
            except contextree.ForkedError:
                process.stdin.close()
                process.__exit__(None, None, None)
                del process
                code = 7
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        process.stdin.write(b"still there")
        process.stdin.close()
        assert process.stdout.read() == b"still there"


def test_programs_of_a_gevent_program(tmp_path):
    """Patched through and through: other greenlets run while one waits, and nobody takes a status."""
    text = ("import gevent.monkey; gevent.monkey.patch_all()\n"
            "import contextree, gevent, subprocess\n"
            "with contextree.Router() as router:\n"
            "    here, forked = router.local(), router.fork(direct=True)\n"
            "    for context in (here, forked):\n"
            "        jobs = [gevent.spawn(context.run, ['sh', '-c', 'cat; exit 3'], input=b'x' * 200000)\n"
            "                for _ in range(4)]\n"
            "        print([(job.get().returncode, len(job.get().stdout)) for job in jobs])\n"
            "    print(subprocess.run(['sh', '-c', 'exit 4']).returncode)\n")
    program = Program(tmp_path / "program.py", text)
    with program.process.stdin, program.process.stdout, program.process.stderr:
        status, out, err = program.ended(20)
    assert (status, err) == (0, "")
    assert out == "[(3, 200000), (3, 200000), (3, 200000), (3, 200000)]\n" * 2 + "4\n"


