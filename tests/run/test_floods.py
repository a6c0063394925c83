"""Much output, much input, slow readers, readers that leave: pace and memory at both ends and between."""

import contextlib
import os
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import contextree
from contextree.parent.pumps import BUDGET
from tests.lab.poll import until
from tests.run import far

MB = 1 << 20
MUCH = 400 * MB


def slack(before):
    """The memory that a stream of any length may cost: budgets, buffers of links, garbage."""
    return before + 40 * MB


def test_b_05_output_in_constant_memory_here_there_and_between(router):
    with router.local(name="middle") as middle:
        target = middle.local(name="target")
        target.run(["true"])
        memory = [far.peak(), middle.call(far.peak), target.call(far.peak)]
        seen = [0]

        def count(data):
            seen[0] += len(data)

        done = target.run(["head", "-c", str(MUCH), "/dev/zero"], stdout=count)
        assert (done.returncode, seen[0]) == (0, MUCH)
        after = [far.peak(), middle.call(far.peak), target.call(far.peak)]
        assert all(now < slack(then) for now, then in zip(after, memory, strict=True)), (after, memory)


def test_b_05_input_in_constant_memory_here_there_and_between(router):
    with router.local(name="middle") as middle:
        target = middle.local(name="target")
        target.run(["true"])
        memory = [far.peak(), middle.call(far.peak), target.call(far.peak)]
        piece = b"x" * MB
        done = target.run(["wc", "-c"], input=(piece for _ in range(MUCH // MB)), text=None)
        assert int(done.stdout) == MUCH
        after = [far.peak(), middle.call(far.peak), target.call(far.peak)]
        assert all(now < slack(then) for now, then in zip(after, memory, strict=True)), (after, memory)


def test_a_gigabyte_through_a_program_unharmed(local, tmp_path):
    """Both directions at once, from a file to a file: the same bytes."""
    size, piece = 100 * MB, os.urandom(MB)
    (tmp_path / "in").write_bytes(piece * (size // MB))
    with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "wb") as target:
        assert local.run(["cat"], stdin=source, stdout=target).returncode == 0
    assert subprocess.run(["cmp", tmp_path / "in", tmp_path / "out"]).returncode == 0


def test_b_05_an_output_that_nobody_reads_holds_up_its_program_and_nobody_else(local, fds):
    """It is held up after its budget, as by a full pipe; calls, and the other output, go on."""
    with local.popen("yes >&2 & cat", shell=True) as process:
        session = process._session
        until(lambda: session.came[b"E"] >= BUDGET, "the budget to be used up")
        process.stdin.write(b"x" * (4 * MB))
        same = process.stdout.read(4 * MB) == b"x" * (4 * MB)
        assert same
        assert max(local.ping(10) for _ in range(5)) < 5
        assert session.came[b"E"] < BUDGET + 2 * 65536
        same = process.stderr.read(3 * BUDGET) == b"y\n" * (3 * BUDGET // 2)
        assert same, "it goes on when it is read"


def test_a_slow_reader_gets_everything_in_order(local, fds):
    script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"
    with local.popen(script, shell=True, text=True) as process:
        for number, line in enumerate(process.stdout):
            assert line == "line %d\n" % number
            if number % 5000 == 0:
                time.sleep(0.05)  # sleeps: a slow reader is what this is about
        assert (number, process.wait()) == (19999, 0)


def test_a_reader_that_leaves_is_told_to_the_program(local, fds):
    with local.popen("yes; echo $? >&2", shell=True) as process:
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert int(process.stderr.read()) == 141, "SIGPIPE"
        assert process.wait(20) == 0


def test_a_program_that_reads_no_more_is_told_to_the_writer(local, fds):
    with local.popen("exec 0<&-; echo closed; read x </dev/tty; sleep 1000", shell=True) as process:
        assert process.stdout.readline() == b"closed\n"
        with pytest.raises(BrokenPipeError):
            process.stdin.write(b"x" * 100_000_000)
    with local.popen(["true"]) as process:
        assert process.wait(20) == 0
        until(lambda: process._session.over, "the end")
        with pytest.raises(BrokenPipeError):
            process.stdin.write(b"x")


def test_a_writer_waits_for_the_program(local, fds):
    with local.popen("read go; wc -c", shell=True) as process:
        written = [0]

        def write():
            with contextlib.suppress(BrokenPipeError):
                while True:
                    process.stdin.write(b"x" * MB)
                    written[0] += MB

        thread = threading.Thread(target=write)
        last = [-1]

        def settled():
            last.append(written[0])
            return last[-1] == last[-2] and written[0]

        thread.start()
        until(settled, "the writer to wait")
        assert written[0] < 5 * MB
        process.end(5)
        thread.join(10)
        assert not thread.is_alive()


def test_many_floods_at_once_share(local):
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(lambda number: len(local.run(["head", "-c", str(8 * MB), "/dev/zero"]).stdout), range(8)))
    assert sizes == [8 * MB] * 8


def test_text_that_is_cut_anywhere(local, fds):
    """Characters of several bytes, and CR LF, that are written byte by byte."""
    script = "for b in '\\303' '\\274' '\\r' '\\n' 'x' '\\r' 'y'; do printf \"$b\"; sleep 0.02; done"
    pieces = []
    local.run(script, shell=True, text=True, stdout=pieces.append)
    assert "".join(pieces) == "ü\nx\ny"
    with local.popen(script, shell=True, text=True) as process:
        assert list(process) == ["ü\n", "x\n", "y"]
    with local.popen(["printf", "\\377"], text=True, errors="surrogateescape") as process:
        assert process.stdout.read() == "\udcff"


def test_streams_of_a_handle_are_files(local, fds):
    with local.popen(["cat"]) as process:
        assert process.stdin.writable() and process.stdout.readable() and not process.stdout.writable()
        assert process.stdin.write(bytearray(b"abc\ndef")) == 7
        assert process.stdout.readline() == b"abc\n"
        assert process.stdout.read1(10) == b"def"
        process.stdin.flush()
        process.stdin.close()
        process.stdin.close()
        with pytest.raises(ValueError, match="closed"):
            process.stdin.write(b"x")
        assert process.stdout.read() == b"" == process.stdout.read()
    assert process.stdout.closed and process.stderr.closed
    with local.popen(["true"], stdin=subprocess.DEVNULL, stdout=None, stderr=subprocess.STDOUT) as process:
        assert (process.stdin, process.stdout, process.stderr, process.wait(20)) == (None, None, None, 0)
    with pytest.raises(contextree.UsageError, match="run"):
        local.popen(["true"], stdout=print)


def test_pieces_of_all_sizes_arrive_in_order(local, fds):
    """Short ones are put together, long ones are cut, and none overtakes another."""
    sizes = [1, 2, 4095, 4096, 4097, 10, 65535, 65536, 65537, 3, 200_000, 5] * 30 + [7] * 50_000
    pieces = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    same = local.run(["cat"], input=iter(pieces)).stdout == b"".join(pieces)
    assert same  # and no page of differences
    with local.popen(["cat"]) as process:
        done = []
        reader = threading.Thread(target=lambda: done.append(process.stdout.read()))
        reader.start()
        for piece in pieces:
            process.stdin.write(piece)
        process.stdin.close()
        reader.join(20)
        same = done == [b"".join(pieces)]
        assert same


def test_what_is_yielded_is_sent_before_the_next_is_asked_for(local, fds):
    """An input that depends on the output does not wait for itself."""
    lines, seen = [], threading.Semaphore(0)

    def take(data):
        lines.append(data)
        seen.release()

    def give():
        for number in range(50):
            yield b"%d\n" % number
            assert seen.acquire(timeout=10), "the answer to what was just given"

    assert local.run(["cat"], input=give(), stdout=take).returncode == 0
    assert lines == [b"%d\n" % number for number in range(50)]
