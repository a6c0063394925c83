"""Jobs: logs, versions, what is refused."""

import logging
import os
import pwd
import shutil
import signal
import tempfile
from concurrent.futures import ThreadPoolExecutor

import pytest

import contextree
from contextree.parent import job_place
from tests.jobs import far
from tests.jobs.conftest import looked
from tests.lab import processes
from tests.lab.poll import until


def test_logs_go_to_the_present_master_or_into_the_output(alone, router, go, caplog):
    caplog.set_level(logging.INFO)
    job = router.attach(alone.token).with_options(threads=2)
    job.call(far.log, "first")
    job.call(print, "printed")
    until(lambda: {"first", "printed"} <= {record.getMessage() for record in caplog.records}, "the log")
    assert {record.name for record in caplog.records if record.getMessage() == "first"} == {"contextree." + job.name}
    soon = go.parent / "soon"
    job.submit(far.log_soon, str(soon), "while nobody is there")
    until(lambda: job.call(far.pid), "the call to have begun")
    job.engine.broker.call(job.engine.children[job.id].link.close, "cut")
    until(lambda: not looked(alone.directory)["held"], "the job to notice")
    soon.touch()
    until(lambda: b"logged" in job_place.read_output(alone.directory, 0, 1000)[1], "the call to log")
    again = router.attach(alone.token).with_options(threads=2)
    text = again.job().output()
    assert "WARNING far: while nobody is there\n" in text and "printed\n" in text and "first" not in text
    again.call(far.log, "second")
    until(lambda: "second" in {record.getMessage() for record in caplog.records}, "the log of the new master")
    again.shutdown(force=True)


def test_a_context_that_is_no_job(router):
    worker = router.local(name="worker")
    with pytest.raises(contextree.UsageError, match="worker is no job"):
        worker.job()
    with pytest.raises(contextree.UsageError, match="master is no job"):
        router.context_by_id(0).job()
    with pytest.raises(contextree.UsageError, match="below this one"):
        router.context_by_id(0).detach(keep=True)
    for token in ("x", "", "abc@/tmp", "A" * 32 + "@relative", None):
        with pytest.raises(contextree.UsageError, match="no token of a job"):
            router.attach(token)


def test_a_job_that_is_stopped_is_killed(alone, router):
    """It does not hear what it is told; what it has kept is still there."""
    job = router.attach(alone.token)
    os.kill(alone.who[0], signal.SIGSTOP)
    job.kill()
    until(lambda: not processes.alive(alone.who), "the job to end")
    dead, = router.jobs()
    assert not dead.alive and isinstance(job.wait(10), contextree.ContextDied)
    with pytest.raises(contextree.UsageError, match="has no answer of call 1"):
        dead.result()
    dead.remove()
    assert not os.path.exists(alone.directory)


def test_who_follows_hears_of_a_cancel_and_of_the_last_line(router, go):
    worker = router.local(name="worker").with_options(threads=4)
    running = worker.submit(far.busy, str(go))
    until((go.parent / "go.begun").exists, "the call to begin")
    worker.detach(keep=True)
    worker.call(print, "more")
    lines = worker.job().follow(20)
    assert next(lines) == "more" and not worker.job().done
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(list, lines)
        until(lambda: worker.call(far.waiting), "the follower to wait")
        running.cancel()
        assert rest.result(20) == []
    for number in range(20):
        worker.call(print, "line", number)
        assert worker.job().output().endswith("line %d\n" % number)
    go.touch()
    worker.shutdown()


def test_p_57_by_paramiko(sshd, state):
    """What was sent just before the tree ends has arrived; the connection goes with the tree, the job does not."""
    with contextree.Router(grace=0.5) as first:
        web = first.ssh("key", ssh_config=sshd.ssh_config, name="web", transport="paramiko")
        go = os.path.join(web.call(tempfile.mkdtemp), "go")
        token = web.detach(keep=True)
        web.submit(far.busy, go)
        who = processes.identity(web.pid)
    try:
        with contextree.Router(grace=0.5) as second:
            web = second.ssh("key", ssh_config=sshd.ssh_config, name="web", transport="paramiko")
            job = web.attach(token)
            with open(go, "w"):
                pass
            assert job.job().result(20) == [None, who[0]]
            job.call(shutil.rmtree, os.path.dirname(go))
            job.shutdown()
        until(lambda: not processes.alive(who), "the job to end")
    finally:
        processes.end([who])


def test_whose_home(monkeypatch, tmp_path):
    """sudo may leave another's HOME: nothing is put there."""
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert job_place.usual() == str(tmp_path / ".local/state/contextree/jobs")
    for other in ("/proc/1/nothing", "relative", "/dev/null/x", ""):
        monkeypatch.setenv("HOME", other)
        assert job_place.home() == pwd.getpwuid(os.geteuid()).pw_dir
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert job_place.usual().startswith(job_place.home())


def test_files_that_are_no_jobs(router, state):
    """Whatever lies there: it is not shown, and not removed."""
    worker = router.local(name="worker")
    directory = worker.detach(keep=True, directory=state / "mine").reveal().split("@")[1]
    whole = until(lambda: job_place.look(directory), "the job")
    text = open_text(directory, job_place.FACTS)
    folder = state / "mine" / "other"
    for content in ("", "{", "[]", "null", text.replace('"pid"', '"did"'), text + "x", "\xff"):
        folder.mkdir(mode=0o700)
        (folder / job_place.FACTS).write_text(content)
        assert [job.directory for job in router.jobs(state / "mine")] == [directory]
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    (folder / job_place.FACTS).symlink_to(os.path.join(directory, job_place.FACTS))
    assert len(router.jobs(state / "mine")) == 1 and not job_place.remove(str(folder))
    shutil.rmtree(folder)
    for change in ({"pid": "x"}, {"calls": [[1]]}, {"output": []}, {"started": None}):
        with pytest.raises(contextree.ProtocolError, match="makes no sense"):
            contextree.Job(worker, dict(whole, **change), True)
    worker.shutdown()


def open_text(directory, name):
    with open(os.path.join(directory, name)) as file:
        return file.read()
