"""Jobs: logs, versions, what is refused."""

import logging

import pytest

import contextree
from contextree.parent import job_place
from tests.jobs import far
from tests.jobs.conftest import looked
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
