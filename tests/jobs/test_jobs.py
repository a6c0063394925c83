"""Jobs: what survives the master, what is kept, how it is taken up again. P-57."""

import os
import shutil
import signal
import subprocess
import tempfile

import pytest

import contextree
from contextree.parent import job_place
from tests.jobs import far, ways
from tests.jobs.conftest import SIMPLE, gone, looked
from tests.lab import processes
from tests.lab import pythons as lab
from tests.lab.poll import until

OLDEST = next(python for python in lab.one_each().values() if python.minor != "2.7")

START = {
    "local": "router.local(name='work')",
    "fork": "router.fork(name='work')",
    "direct": "router.fork(direct=True, name='work')",
    "below": "router.local().fork(name='work')",
    "terminal": "router.grow(contextree.Plan(['\\0python'], 'work', 'tty', tty=True, trusted=True))",
    "group": "router.grow(contextree.Plan(['\\0here', '-c', %r, '\\0python'], 'work', 'x', trusted=True))" % (
        "import os, sys; pid = os.fork(); pid or os.setpgid(0, 0) or os.execvp(sys.argv[1], sys.argv[1:]); "
        "os._exit(os.waitpid(pid, 0)[1] >> 8)",),  # it leads a group in another's session
    "oldest": "router.local(name='work', python=%r)" % (list(OLDEST.argv),),
}


@pytest.mark.parametrize(("method", "end"), [
    ("local", "kill"), ("local", "kill_group"), ("local", "close"), ("fork", "kill_group"), ("fork", "close"),
    ("direct", "kill"), ("direct", "close"), ("below", "kill_group"), ("below", "close"), ("terminal", "kill_group"),
    ("terminal", "close"), ("group", "kill"), ("oldest", "kill"), ("oldest", "close")])
def test_p_57_a_job_outlives_its_master(master, router, go, method, end):
    """Its calls end, the one that had not begun too; another process takes it up, and ends it."""
    made = master(SIMPLE.replace("router.local(name=\"work\")", START[method]).replace(
        "token =", "job.submit(far.pid); token ="), go=go)
    getattr(made, end)()
    assert processes.alive(made.who)
    job = router.attach(made.token)
    assert (job.pid, job.state, job.facts["method"]) == (made.who[0], "up", "job")
    assert job.name == "job." + os.path.basename(made.directory) and job in router.contexts
    kept = job.job()
    assert kept.pid == job.pid and kept.held and not kept.done and kept.name.endswith("work")
    assert [each.name for each in kept.calls] == ["tests.jobs.far.busy", "tests.jobs.far.pid"]
    with pytest.raises(contextree.CallTimeout):
        kept.calls[0].result(0.05)
    assert job.with_options(threads=2).call(far.pid) == job.pid
    go.touch()
    assert kept.calls[0].result(10) == [1, job.pid] and kept.result(10) == job.pid
    assert list(kept.follow(10)) == ["done 1"] and kept.done
    assert list(job.stream(range, 3)) == [0, 1, 2]
    child = job.fork(name="child") if method != "oldest" else job.local(name="child")
    assert child.name == job.name + ".child" and child.call(far.pid) == child.pid
    if method == "local" and end == "close":
        assert job.call(lambda x: x + 1, 41) == 42
    job.shutdown()
    assert gone(made) and router.jobs() == []


def test_p_57_over_ssh(sshd, state):
    """The session ends, the job does not; it is taken up by a new one, whose values are not trusted."""
    with contextree.Router(grace=0.5) as first:
        web = first.ssh("key", ssh_config=sshd.ssh_config, name="web")
        folder = web.call(tempfile.mkdtemp)
        go = os.path.join(folder, "go")
        calls = [web.submit(function, go) for function in (far.busy, far.point, far.fail)]
        until(lambda: os.path.exists(go + ".begun"), "the call to begin")
        token = web.detach(keep=True)
        assert web.with_options(threads=1).call(far.group) == (True, True, False)
        ssh = [processes.identity(child.pid) for child in first.engine.reaper]
        who = processes.identity(web.pid)
    assert not any(call.done() and not call.exception() for call in calls)
    until(lambda: not any(processes.alive(each) for each in ssh), "ssh to end")
    assert processes.alive(who)
    try:
        with contextree.Router(grace=0.5) as second:
            web = second.ssh("key", ssh_config=sshd.ssh_config, name="web")
            assert who[0] in [job.pid for job in web.jobs()]
            job = web.attach(token)
            assert job.name == "web.job." + os.path.basename(token.reveal()) and job.parent is web
            assert job.pid == who[0] and job.with_options(threads=1).call(far.pid) == who[0]
            open(go, "w").close()
            busy, point, fail = job.job().calls[:3]
            assert busy.result(10) == [None, who[0]]
            with pytest.raises(contextree.NotSendable, match="not trusted"):
                point.result(10)
            with pytest.raises(LookupError, match="nothing"):
                fail.result(10)
            job.call(shutil.rmtree, folder)
            job.shutdown()
            assert who[0] not in [job.pid for job in web.jobs()]
        until(lambda: not processes.alive(who), "the job to end")
    finally:
        processes.end([who])


@pytest.mark.parametrize("way", ["ssh", "sudo", "sudo on a terminal"])
def test_p_57_other_accounts_and_a_master_that_is_killed(request, master, router, way):
    """Its group is killed, its terminal hung up: who reached the account keeps nobody from coming back."""
    config = request.getfixturevalue("sshd").ssh_config if way == "ssh" else ""
    if way != "ssh" and (not shutil.which("sudo") or
                         subprocess.run([*ways.SUDO[:4], "python3", "-c", "pass"], check=False).returncode):
        pytest.skip("needs sudo, and root")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        go = os.path.join(folder, "go")
        text = SIMPLE.replace("router.local(name=\"work\")", "ways.reach(router, %r, %r)" % (way, str(config)))
        made = master(text.replace("    with", "    from tests.jobs import ways\n    with", 1), go=go)
        below = [who for who in processes.descendants(made.process.pid) if who != made.who]
        made.kill_group()
        again = ways.reach(router, way, config)
        found, = (each for each in again.jobs() if each.directory == made.directory)
        assert found.pid == made.who[0] and not found.done
        until(lambda: not found.refresh().held, "the job to notice")
        job = again.attach(made.token)
        open(go, "w").close()
        assert job.job().result(10) == [1, made.who[0]] and job.job().output() == "done 1\n"
        job.shutdown()
        until(lambda: not processes.alive(made.who), "the job to end")
        assert made.directory not in {each.directory for each in again.jobs()} and not os.path.exists(made.directory)
        until(lambda: not any(processes.alive(who) for who in below), "what had reached it to end")


def test_what_calls_gave_is_kept(master, router, go):
    """Results, errors, what cannot be kept, async functions, threads, calls that ran or waited."""
    text = SIMPLE.replace("token =", """
        for function in (far.fail, far.point, far.unsendable, far.later):
            job.submit(function, os.environ["T_GO"])
        job.with_options(threads=3).submit(far.point, os.environ["T_GO"])
        job.submit(lambda: 42)
        given = job.with_options(threads=3).call(far.pid)
        token =""")
    made = master(text, go=go)
    made.kill()
    go.touch()
    job = router.attach(made.token)
    kept = job.job()
    busy, fail, point, unsendable, later, threaded, value = kept.calls
    assert busy.result(10) == [1, job.pid] and point.result(10).x == threaded.result(10).x == 3
    with pytest.raises(LookupError, match="nothing") as caught:
        fail.result(10)
    assert isinstance(caught.value.__cause__, contextree.RemoteError) and "far.py" in str(caught.value.__cause__)
    with pytest.raises(contextree.NotSendable, match="cannot be kept"):
        unsendable.result(10)
    assert later.result(10) == "async" and value.result(10) == kept.result(10) == 42
    kept.refresh()
    assert kept.done and [each.failed for each in kept.calls] == [False, True, False, True, False, False, False]
    assert all(each.finished >= each.started for each in kept.calls)
    assert "%r" % kept.calls[1] == "<JobCall 2 tests.jobs.far.fail, failed>"
    with pytest.raises(contextree.UsageError, match="keeps no call 99"):
        contextree.JobCall(kept, 99, "?", 0.0, None, False, False).result(10)
    # what others read in its files, without the job
    other, = router.jobs()
    assert other.held and other.alive and other.result() == 42
    with pytest.raises(contextree.UsageError, match="lives"):
        other.remove()
    job.shutdown()


def test_the_function_is_not_told_that_its_master_went(master, router, go):
    made = master(SIMPLE.replace("far.busy", "far.watch_cancel").replace(", 1)", ")"), go=go)
    made.kill()
    job = router.attach(made.token)
    go.touch()
    assert job.job().result(10) == [False, []]
    job.shutdown()


def test_an_answer_that_nobody_read_is_kept(master, router, go):
    """The master was stopped when the answer came, and then killed: it is not lost. One that was read is not kept."""
    made = master("""
        with contextree.Router() as router:
            job = router.local(name="work")
            token = job.detach(keep=True)
            assert job.call(far.pid) == job.pid
            job.submit(far.busy, os.environ["T_GO"], 5)
            until(lambda: os.path.exists(os.environ["T_GO"] + ".begun"), "the call to begin")
            print(token.reveal(), job.pid, flush=True)
            sys.stdin.read()
        """, go=go)
    os.kill(made.process.pid, signal.SIGSTOP)
    go.touch()
    until(lambda: b"done 5" in job_place.read_output(made.directory, 0, 1000)[1], "the call to end")
    made.kill()
    job = router.attach(made.token)
    call, = job.job().calls
    assert call.result(10) == [5, job.pid] and call.name == "tests.jobs.far.busy"
    job.shutdown()


def test_one_master_at_a_time(alone, router, go):
    job = router.attach(alone.token)
    with contextree.Router() as other:
        with pytest.raises(contextree.AuthenticationError, match=r"it is held by process \d+, as job\..*force=True"):
            other.attach(alone.token)
        assert job.with_options(threads=1).call(far.pid) == job.pid
        taken = other.attach(alone.token, force=True, name="mine")
        assert taken.name == "mine" and taken.with_options(threads=1).call(far.pid) == alone.who[0]
        assert isinstance(job.wait(10), contextree.ContextDied)
        # a job that was taken up lives on once more
    until(lambda: not looked(alone.directory)["held"], "the job to notice")
    go.touch()
    again = router.attach(alone.token)
    assert again.job().calls[0].result(10) == [1, again.pid]
    again.kill()
    assert gone(alone)


def test_a_second_crash_and_a_third_master(alone, master, router, go):
    """Taken up by a program that is killed while its own call runs: both calls are kept."""
    second = master("""
        router = contextree.Router()
        job = router.attach(os.environ["T_TOKEN"])
        job.with_options(threads=2).submit(far.busy, os.environ["T_GO"], 2)
        job.with_options(threads=2).submit(far.fail, os.environ["T_GO"])
        until(lambda: job.with_options(threads=4).call(far.all_begun) == ["busy", "busy", "fail"], "all to begin")
        job.with_options(threads=4).call(far.remember, 7)
        print(os.environ["T_TOKEN"], job.pid, flush=True)
        sys.stdin.read()
        """, token=alone.token, go=go)
    second.kill()
    job = router.attach(alone.token)
    go.touch()
    calls = job.job().calls  # in any order; what is asked last is kept too where its answer did not arrive
    assert sorted(call.result(10) for call in calls if call.name.endswith(".busy")) == [[1, job.pid], [2, job.pid]]
    (failed,) = [call for call in calls if call.name.endswith(".fail")]
    with pytest.raises(LookupError):
        failed.result(10)
    assert job.call(far.recall) == 7
    job.shutdown()
    assert gone(alone)


def test_contexts_below_a_job_live_as_long_as_its_calls(master, router, go):
    """A function that has children goes on with them, and may start more, when the master has gone."""
    made = master(SIMPLE.replace("far.busy", "far.with_child").replace(", 1)", ")"), go=go)
    begun = go.parent / "go.begun"
    below = processes.identity(int(until(begun.read_text, "the pid of the child")))
    made.kill()
    job = router.attach(made.token)
    assert processes.alive(below) and job.children == []
    mine = job.fork(name="mine")
    go.touch()
    first, again, new = job.job().result(20)
    assert first == again == below[0] and new != first
    until(lambda: not processes.alive(below), "what was below to end with the call")
    assert mine.call(far.pid) == mine.pid
    who = processes.identity(mine.pid)
    job.engine.broker.call(job.engine.children[job.id].link.close, "the network is gone")
    until(lambda: not processes.alive(who), "a context below to end with its master: no call runs")
    again = router.attach(made.token)
    again.shutdown()
    assert gone(made)


def test_a_first_child_while_nobody_is_there(master, router, go):
    """What it takes is there: it came when the context became a job."""
    made = master(SIMPLE.replace("far.busy", "far.busy, os.environ['T_GO'] + '2', 0); job.submit(far.start_child")
                  .replace(", 1)", ")").replace('os.environ["T_GO"] +', 'os.environ["T_GO"] + "2" +'), go=go)
    made.kill()
    until(lambda: not looked(made.directory)["held"], "the job to notice")
    (go.parent / "go2").touch()
    go.touch()
    until(lambda: looked(made.directory)["calls"][1][5], "the call to end")
    kept, = router.jobs()
    pid, four, state = kept.result()
    assert pid != made.who[0] and four == 4 and state == "died"
    router.attach(made.token).shutdown()
    assert gone(made)


def test_it_depends_on_nobody(alone, router, go):
    """Session and group of its own, no terminal, deaf to a hang-up; its programs are not."""
    os.kill(alone.who[0], signal.SIGHUP)
    job = router.attach(alone.token).with_options(threads=2)
    assert job.call(far.group) == (True, True, False)
    job.call(os.kill, job.pid, signal.SIGHUP)
    assert job.call(far.pid) == alone.who[0]
    assert job.run(["sh", "-c", "kill -HUP $$"]).returncode == -signal.SIGHUP
    child = job.fork(name="child")
    with pytest.raises(contextree.ContextDied):
        child.call(os.kill, child.pid, signal.SIGHUP), child.call(far.pid)
    job.shutdown()


def test_a_context_of_this_tree_is_taken_up_elsewhere_in_it(router, state):
    """Where the job lives, another context takes it up; ``attach`` works in every context."""
    one, two = router.local(name="one"), router.local(name="two")
    worker = one.fork(name="worker")
    token = worker.detach(keep=True)
    assert worker.detach(keep=True) == token and repr(token) == "Secret('********')"
    who = processes.identity(worker.pid)
    with pytest.raises(contextree.AuthenticationError, match="held by the master"):
        two.attach(token)
    one.kill()
    job = router.attach(token, via=two)
    assert job.name == "two." + job.name.split(".", 1)[1] and job.call(far.pid) == who[0]
    assert job.detach(keep=True) == token
    two.shutdown()
    assert processes.alive(who)
    until(lambda: not looked(os.path.dirname(token.reveal().split("@")[1]) and token.reveal().split("@")[1])["held"],
          "the job to notice")
    three = router.local(name="three")
    assert three.call(far.attach, token.reveal()) == who[0]
    until(lambda: not processes.alive(who), "the job to end with the block that took it up")


def test_time_to_live(master, router, go):
    made = master(SIMPLE.replace("keep=True", "keep=True, time_to_live=0.3"), go=go)
    go.touch()
    made.kill()
    assert gone(made)
    with pytest.raises(contextree.ConnectError, match="there is no job in"):
        router.attach(made.token)
    with pytest.raises(contextree.UsageError, match="time_to_live"):
        router.local().detach(keep=True, time_to_live=0)


def test_a_dead_job_shows_what_it_has_kept(alone, router, go):
    go.touch()
    until(lambda: looked(alone.directory)["calls"][0][5], "the call to end")
    processes.end([alone.who])
    with pytest.raises(contextree.ConnectError, match="does not answer"):
        router.attach(alone.token)
    dead, = router.jobs()
    assert not dead.alive and not dead.held and dead.directory == alone.directory and dead.done
    assert "%r" % dead == "<Job work, process %d, dead>" % alone.who[0]
    assert dead.result() == [1, alone.who[0]] and dead.output() == "done 1\n"
    with pytest.raises(contextree.UsageError, match="take the job up"):
        next(dead.follow())
    # for another context as well
    other, = router.local().jobs()
    assert other.result() == [1, alone.who[0]] and other.output(None) == b"done 1\n"
    dead.remove()
    assert router.jobs() == [] and not os.path.exists(alone.directory)
    dead.remove()
    with pytest.raises(contextree.UsageError, match="no job"):
        dead.refresh()


def test_dead_jobs_are_swept_when_their_time_is_over(master, router, go):
    made = master(SIMPLE.replace("keep=True", "keep=True, time_to_live=60"), go=go)
    made.kill()
    until(lambda: not looked(made.directory)["held"], "the job to notice")
    processes.end([made.who])
    assert len(router.jobs()) == 1
    old = os.stat(made.directory).st_mtime - 100
    os.utime(os.path.join(made.directory, job_place.FACTS), (old, old))
    until(lambda: router.jobs() == [], "the last thread of the killed process to let go of the lock")
    assert not os.path.exists(made.directory)


def test_shutdown_before_the_master_goes_leaves_nothing(router, state, tmp_path):
    for end in (lambda context: context.shutdown(), lambda context: context.kill()):
        worker = router.local(name="worker")
        token = worker.detach(keep=True, directory=tmp_path / "mine")
        directory = token.reveal().split("@")[1]
        assert os.path.dirname(directory) == str(tmp_path / "mine") and os.stat(directory).st_mode & 0o777 == 0o700
        assert [job.directory for job in router.jobs(tmp_path / "mine")] == [directory] and router.jobs() == []
        who = processes.identity(worker.pid)
        end(worker)
        until(lambda who=who: not processes.alive(who), "it to end")
    assert router.jobs(tmp_path / "mine") == [] or not router.jobs(tmp_path / "mine")[0].alive


def test_another_version_cannot_take_it_up(alone, router, go, monkeypatch):
    from contextree.parent import jobs

    monkeypatch.setattr(jobs, "digest", lambda bundle: "another")
    with pytest.raises(contextree.VersionError, match="another version"):
        router.attach(alone.token)
    monkeypatch.undo()
    router.attach(alone.token).shutdown(force=True)
