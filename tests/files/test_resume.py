"""Broken transfers: what is kept of them, and what is made of that."""

import os
import stat

import pytest

import contextree
from contextree.parent.filesource import PathSource
from contextree.parent.pathsink import PathSink
from tests.files.test_sink import END, FOLDER, small, write
from tests.files.tools import census

MB = 1 << 20


def partial_of(folder):
    return [path for path in folder.iterdir() if path.name.endswith(".part")]


def broken(path, data, at):
    """A transfer of ``data`` to ``path`` that breaks after ``at`` bytes."""
    sink = PathSink(os.fsencode(path), {"resume": True})
    sink.take({"is": "file", "path": [], "size": len(data)})
    if at:
        sink.take(data[:at])
    sink.abort()


def resumed(source, target):
    """What is transferred, the messages between."""
    sink = PathSink(os.fsencode(target), {"resume": True})
    reader = PathSource(os.fsencode(source), {})
    sent = []
    try:
        for message in reader.messages(sink.partial):
            sent.append(message)
            sink.take(message)
    finally:
        sink.abort()
        reader.close()
    return sink.result(), sum(len(message) for message in sent if type(message) is bytes)


def test_a_broken_transfer_goes_on_where_it_was(tmp_path):
    data = os.urandom(MB)
    (tmp_path / "source").write_bytes(data)
    broken(tmp_path / "target", data, 200_000)
    (part,) = partial_of(tmp_path)
    assert stat.S_IMODE(part.stat().st_mode) == 0o600 and not (tmp_path / "target").exists()
    result, sent = resumed(tmp_path / "source", tmp_path / "target")
    assert result == (1, MB, 200_000) and sent == MB - 200_000
    assert census(tmp_path) == {"source": data, "target": data}


def test_a_part_that_is_not_of_this_source_is_not_used(tmp_path):
    data = os.urandom(MB)
    (tmp_path / "source").write_bytes(data)
    for other in (os.urandom(MB), data + data):
        broken(tmp_path / "target", other, 250_000)
        if other is not data + data:
            partial_of(tmp_path)[0].write_bytes(other)
        result, sent = resumed(tmp_path / "source", tmp_path / "target")
        assert result == (1, MB, 0) and sent == MB
        assert census(tmp_path) == {"source": data, "target": data}


def test_a_transfer_that_broke_before_its_first_byte_leaves_nothing(tmp_path):
    broken(tmp_path / "target", b"data", 0)
    assert census(tmp_path) == {}


def test_a_part_with_another_hash_at_the_end_is_removed(tmp_path):
    with pytest.raises(contextree.TransferError, match="hash"):
        write(tmp_path / "target", [{"is": "file", "path": [], "size": 4}, b"data", {"is": "done", "hash": bytes(32)}],
              resume=True)
    assert census(tmp_path) == {}


@pytest.mark.parametrize("trap", ["symlink", "open to others", "fifo", "hard link"])
def test_a_part_that_somebody_else_may_have_put_there_is_not_touched(tmp_path, trap):
    broken(tmp_path / "target", b"data", 4)
    (part,) = partial_of(tmp_path)
    (tmp_path / "precious").write_text("precious")
    if trap == "open to others":
        part.chmod(0o666)
    else:
        part.unlink()
        if trap == "symlink":
            part.symlink_to("precious")
        elif trap == "fifo":
            os.mkfifo(part)
        else:
            (tmp_path / "precious").chmod(0o600)
            os.link(tmp_path / "precious", part)
    before = census(tmp_path)
    with pytest.raises((contextree.TransferError, OSError)):
        write(tmp_path / "target", [small([]), END], resume=True)
    assert census(tmp_path) == before


def test_two_that_resume_the_same_do_not_mix(tmp_path):
    first = PathSink(os.fsencode(tmp_path / "target"), {"resume": True})
    with pytest.raises(contextree.TransferError, match="another transfer"):
        PathSink(os.fsencode(tmp_path / "target"), {"resume": True})
    first.take(small([], b"mine"))
    first.take(END)
    first.abort()
    assert census(tmp_path) == {"target": b"mine"}


def test_a_folder_cannot_be_resumed(tmp_path):
    with pytest.raises(contextree.UsageError, match="only a file"):
        write(tmp_path / "top", [FOLDER, END], resume=True)
    assert census(tmp_path) == {}
