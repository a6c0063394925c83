"""What a job keeps of what it writes: bounded, counted, and without a disk it runs on."""

import os
import re
import shutil

import pytest

from contextree.parent import job_place
from contextree.parent.job_output import SMALLEST, Clerk, KeptOutput
from tests.jobs import far
from tests.jobs.conftest import SIMPLE
from tests.lab import processes
from tests.lab.poll import until


@pytest.fixture
def make(router):
    """make(**options): (context that is a job, its directory)"""
    made = []

    def make(**options):
        worker = router.local(name="worker").with_options(threads=2)
        made.append(worker)
        token = worker.detach(keep=True, **options)
        return worker, token.reveal().split("@")[1]

    yield make
    for worker in made:
        worker.shutdown()


def written(job, text):
    return until(lambda: text in job.job().output() and job.job().output(), "%r in the output" % text)


def test_the_oldest_is_dropped_and_counted(make, router):
    worker, directory = make(output_limit=10000)
    worker.call(far.write, 1000, "line %06d")
    text = written(worker, "line 000999\n")
    job = worker.job()
    assert 5000 < len(text) <= 10000 + 20 and job.written == 12000 + len("error\n") and "error\n" in text
    assert job.dropped == job.written - len(text) and job.dropped % 5000 == 0
    sizes = [os.stat(os.path.join(directory, name)).st_size for name in os.listdir(directory) if "output." in name]
    assert sum(sizes) == len(text) and len(sizes) <= 2
    assert list(job.follow(10)) == text.splitlines()
    here, = router.jobs()  # the same by its files
    assert here.output() == text and (here.dropped, here.written) == (job.dropped, job.written)


def test_a_full_disk_costs_output_and_nothing_else(make):
    worker, _ = make(output_limit=1 << 20)
    worker.call(far.limit_files, 3000)
    worker.call(far.write, 1000, "line %06d")
    until(lambda: worker.job().written == 3000, "the file to be full")
    assert worker.call(far.pid) == worker.pid
    worker.call(far.limit_files, 1 << 20)
    text = until(lambda: worker.call(print, "again") or ("again\n" in worker.job().output() and worker.job().output()),
                 "output again")
    lost = re.search(r"^\[contextree: (\d+) bytes of output were lost here: File too large\]\nagain\n", text[3000:])
    assert int(lost[1]) >= 12006 - 3000 and text[:3000] == "".join("line %06d\n" % n for n in range(250))


def test_a_directory_that_is_gone(master, go):
    """The job runs on; once nobody has it and no call runs, it ends: nobody can come any more."""
    made = master(SIMPLE.replace("token =", "job.with_options(threads=1).call(far.look_often); token =").replace(
        "sys.stdin.read()", """
        sys.stdin.readline()
        job = job.with_options(threads=1)
        assert job.call(far.write, 1, "x %d") is None
        assert job.call(far.pid) == job.pid and job.job().directory == token.reveal().split("@")[1]
        """), go=go)
    shutil.rmtree(made.directory)
    made.process.stdin.write("\n")
    made.close()
    assert made.process.returncode == 0 and processes.alive(made.who)
    go.touch()
    until(lambda: not processes.alive(made.who), "the job to end")


class Loop:
    """As much of a loop as KeptOutput wants where nothing is read."""

    def on_error(self, function):
        raise AssertionError(function)


def test_halves_turn_at_the_byte(tmp_path):
    """Every byte is at its place, whatever the pieces are."""
    fd = os.open(tmp_path, os.O_RDONLY)
    clerk = Clerk(None)
    output = KeptOutput(Loop(), clerk, fd, 0, None, None)
    whole = b""
    for size in (1, 2047, 1, 5000, 3, 2048, 10000, 2047):
        data = os.urandom(size)
        whole += data
        output.write(data)
        kept = job_place.segments(fd)
        assert kept[-1][1] == len(whole) and kept[-1][1] - kept[0][0] <= SMALLEST
        for start, end in kept:
            assert job_place.read_file(fd, job_place.OUTPUT + str(start)) == whole[start:end]
        offset = min(kept[0][0] + 1, len(whole) - 1)
        os.chmod(tmp_path, 0o700)
        start, data = job_place.read_output(str(tmp_path), offset, 100)
        assert start == offset and data == whole[offset:offset + len(data)] and data
    assert job_place.read_output(str(tmp_path), 0, 1)[0] == kept[0][0]
    assert job_place.read_output(str(tmp_path), len(whole), 1) == (len(whole), b"")
    from contextree.core import process

    process.close(output.file)
    os.close(fd)
