"""The writing end by itself: what it refuses, and how files come to their names."""

import os
import random
import stat

import pytest

import contextree
from contextree.parent import filewrite
from contextree.parent.filesource import ObjectSource, PathSource
from contextree.parent.pathsink import PathSink
from contextree.parent.transfer import Digest
from tests.files.tools import allocated, census

MB = 1 << 20
FOLDER = {"is": "dir", "path": [], "mode": 0o755, "mtime": 0}
END = {"is": "end"}


def digest(*pieces):
    total = Digest()
    for piece in pieces:
        total.add(piece)
    return total.value()


def small(path, data=b"x", **fields):
    """The one message of a small file."""
    return {"is": "file", "path": path, "size": len(data), "data": data, "hash": digest(data) if data else digest(),
            "mode": 0o644, "mtime": 0, **fields}


def write(path, messages, **options):
    """Give messages to a sink at ``path``; it has ended, well or not, when this returns."""
    sink = PathSink(os.fsencode(path), options)
    try:
        for message in messages:
            sink.take(message)
        assert sink.done
    finally:
        sink.abort()
    return sink.result()


@pytest.fixture(params=["without a name", "with a name"])
def kind(request, monkeypatch):
    """New files of both kinds."""
    if request.param == "with a name":
        monkeypatch.setattr(filewrite, "TMPFILE", 0)
    elif not filewrite.TMPFILE:
        pytest.fail("this system has no O_TMPFILE")
    return request.param


HOSTILE = {
    "..": [FOLDER, small([b".."])],
    "../x": [FOLDER, small([b"..", b"x"])],
    "a slash in a name": [FOLDER, small([b"../x"])],
    "absolute": [FOLDER, small([b"/etc/passwd"])],
    "no name": [FOLDER, small([b""])],
    "a dot": [FOLDER, small([b"."])],
    "a zero": [FOLDER, small([b"a\0b"])],
    "text": [FOLDER, small(["name"])],
    "nested lists": [FOLDER, small([[b"a"]])],
    "a path that is no list": [FOLDER, {**small([]), "path": b"name"}],
    "twice": [FOLDER, small([b"a"]), small([b"a"])],
    "out of order": [FOLDER, small([b"b"]), small([b"a"])],
    "a file as a folder": [FOLDER, small([b"a"]), small([b"a", b"b"])],
    "in no folder": [FOLDER, small([b"a", b"b"])],
    "in another folder": [FOLDER, {**FOLDER, "path": [b"a"]}, small([b"b", b"c"])],
    "below the file that it is": [small([]), small([b"a"])],
    "two roots": [FOLDER, FOLDER],
    "no root": [small([b"a"])],
    "through a link": [FOLDER, {"is": "link", "path": [b"a"], "target": b"."}, small([b"a", b"b"])],
    "a folder over a link": [FOLDER, {"is": "link", "path": [b"a"], "target": b"."}, {**FOLDER, "path": [b"a"]}],
    "a link as the root": [{"is": "link", "path": [], "target": b"x"}, END],
    "a link without a target": [FOLDER, {"is": "link", "path": [b"a"]}],
    "a device": [{"is": "device", "path": [], "major": 1, "minor": 3}],
    "nothing": [END],
    "another end": [small([]), END, END],
    "data before a file": [b"data"],
    "data after a file": [small([]), b"data"],
    "a hole in nothing": [5],
    "a hole of nothing": [{"is": "file", "path": [], "size": 10}, 0],
    "a hole backwards": [{"is": "file", "path": [], "size": 10}, -5],
    "a hole too far": [{"is": "file", "path": [], "size": None}, 1 << 62],
    "a truth": [{"is": "file", "path": [], "size": 10}, True],
    "a float": [{"is": "file", "path": [], "size": 10}, 1.5],
    "None": [None],
    "a list": [[1, 2]],
    "an unknown field": [{**small([]), "exec": "x"}],
    "an unhashable kind": [{"is": []}],
    "more than was announced": [{"is": "file", "path": [], "size": 3}, b"four"],
    "a hole longer than was announced": [{"is": "file", "path": [], "size": 3}, 4],
    "less than was announced": [{"is": "file", "path": [], "size": 3}, b"x", {"is": "done", "hash": digest(b"x")}],
    "a negative length": [{"is": "file", "path": [], "size": -1}],
    "no length": [{"is": "file", "path": []}],
    "a message as long as memory": [{"is": "file", "path": [], "size": 4 * MB}, bytes(2 * MB)],
    "an end in the middle": [{"is": "file", "path": [], "size": 3}, b"x", END],
    "a file in a file": [{"is": "file", "path": [], "size": 3}, small([b"a"])],
    "going on where nothing is": [{"is": "file", "path": [], "size": 9, "start": 5}],
    "a mode that is none": [small([], mode=-1)],
    "a mode of text": [small([], mode="0644")],
    "an owner that is none": [small([], owner=[0])],
    "an owner far away": [small([], owner=[1 << 40, 0, None, None])],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_s_31_p_66_what_does_not_fit_is_refused_and_nothing_is_left(tmp_path, name, kind):
    """Each row of HOSTILE is what a hostile context could send."""
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "x").write_text("precious")
    before = census(tmp_path)
    with pytest.raises((contextree.ProtocolError, FileExistsError, NotADirectoryError)):
        write(inside / "target", HOSTILE[name])
    after = census(tmp_path)
    after.pop("inside/target", None) if name in ("another end", "data after a file", "below the file that it is") else 0
    assert after == before


@pytest.mark.parametrize("target", [b"/etc/passwd", b"../x", b"a/../../x", b"..", b"../../../../etc"])
def test_s_31_links_that_lead_out_are_refused(tmp_path, target):
    link = {"is": "link", "path": [b"l"], "target": target}
    with pytest.raises(contextree.TransferError, match="leads out"):
        write(tmp_path / "top", [FOLDER, link, END])
    assert census(tmp_path) == {}
    write(tmp_path / "top", [FOLDER, link, END], links="all")
    assert census(tmp_path)["top/l"] == "-> " + target.decode()


def test_s_31_folders_that_are_links_here_are_not_written_through(tmp_path):
    """Into a folder that is there, by a symlink in it that leads elsewhere."""
    top, precious = tmp_path / "top", tmp_path / "precious"
    top.mkdir()
    precious.mkdir()
    (top / "sub").symlink_to(precious)
    with pytest.raises(NotADirectoryError) as caught:
        write(top, [FOLDER, {**FOLDER, "path": [b"sub"]}, small([b"sub", b"a"]), END])
    assert caught.value.filename == str(top / "sub")
    assert list(precious.iterdir()) == []


def test_s_31_a_link_at_the_place_of_a_file_is_replaced_and_not_followed(tmp_path, kind):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "target").symlink_to("precious")
    write(tmp_path / "target", [small([], b"new"), END])
    assert census(tmp_path) == {"precious": b"precious", "target": b"new"}


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))],
                         ids=["fifo", "device"])
def test_a_device_or_a_fifo_is_not_replaced(tmp_path, make):
    try:
        make(tmp_path / "odd")
    except PermissionError:
        os.mkfifo(tmp_path / "odd")  # not root: no devices
    with pytest.raises(contextree.TransferError, match="not replaced"):
        write(tmp_path / "odd", [small([]), END])
    assert census(tmp_path) == {"odd": "special"}


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1777, 0o7777])
def test_s_31_set_user_id_bits_of_another_machine_are_not_kept(tmp_path, mode):
    for options in ({}, {"preserve": True}, {"preserve": "owner"}):
        target = tmp_path / "target"
        write(target, [small([], mode=mode), END], **options)
        assert stat.S_IMODE(target.stat().st_mode) & 0o7000 == 0
        target.unlink()
    write(target, [small([]), END], mode=mode)
    assert stat.S_IMODE(target.stat().st_mode) == mode, "who asks here may have them"


@pytest.mark.parametrize(("size", "messages"), [
    (10, [small([], b"x" * 11)]), (10, [{"is": "file", "path": [], "size": 11}]),
    (10, [{"is": "file", "path": [], "size": None}, b"x" * 11]), (10, [{"is": "file", "path": [], "size": None}, 11]),
    (1034, [FOLDER, small([b"a"], b"x" * 6), small([b"b"], b"x" * 6)]), (0, [small([], b"x")]),
    (5000, [FOLDER, *[small([b"%03d" % number], b"") for number in range(10)]]),
])
def test_s_31_s_30_no_more_than_max_size(tmp_path, size, messages):
    with pytest.raises(contextree.TransferError, match="larger than max_size"):
        write(tmp_path / "target", messages, max_size=size)
    assert census(tmp_path) == {}


def test_exactly_max_size_is_allowed(tmp_path):
    assert write(tmp_path / "file", [small([], b"x" * 10), END], max_size=10) == (1, 10, 0)
    assert write(tmp_path / "top", [FOLDER, small([b"a"], b"x" * 6), END], max_size=518) == (1, 6, 0)


def test_what_arrives_otherwise_than_it_was_sent_is_not_put_in_place(tmp_path, kind):
    (tmp_path / "target").write_text("old")
    for message in ([{"is": "file", "path": [], "size": 3}, b"new", {"is": "done", "hash": digest(b"neW")}],
                    [small([], b"new", hash=bytes(32))],
                    [{"is": "file", "path": [], "size": 3}, 3, {"is": "done", "hash": digest(bytes(3))}]):
        with pytest.raises(contextree.TransferError, match="hash is another"):
            write(tmp_path / "target", [*message, END])
    assert census(tmp_path) == {"target": b"old"}


def test_nothing_has_the_name_before_it_is_whole(tmp_path, kind):
    sink = PathSink(os.fsencode(tmp_path / "target"), {})
    try:
        sink.take({"is": "file", "path": [], "size": 8})
        sink.take(b"half")
        there = list(tmp_path.iterdir())
        assert len(there) == (kind == "with a name") and not (tmp_path / "target").exists()
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in there)
        sink.take(b"more")
        sink.take({"is": "done", "hash": digest(b"half", b"more")})
        sink.take(END)
    finally:
        sink.abort()
    assert census(tmp_path) == {"target": b"halfmore"}


def test_a_folder_has_its_name_only_when_it_is_whole(tmp_path):
    sink = PathSink(os.fsencode(tmp_path / "target"), {})
    for message in [FOLDER, small([b"a"]), {**FOLDER, "path": [b"b"], "mode": 0o500}, small([b"b", b"c"])]:
        sink.take(message)
    (hidden,) = tmp_path.iterdir()
    assert hidden.name.startswith(".target.") and stat.S_IMODE(hidden.stat().st_mode) == 0o700
    sink.abort()
    assert census(tmp_path) == {}


def test_modes(tmp_path, kind):
    target = tmp_path / "target"
    mask = os.umask(0o027)
    try:
        def mode_after(*messages, **options):
            write(target, [*messages, END], **options)
            return stat.S_IMODE(target.stat().st_mode)

        assert mode_after(small([], mode=0o777)) == 0o750, "a new file: that of the source, less the umask here"
        assert mode_after(small([], mode=0o600)) == 0o750, "a file that is replaced keeps its mode"
        assert mode_after(small([], mode=0o604), preserve=True) == 0o604
        assert mode_after(small([]), mode=0o640) == 0o640
        target.unlink()
        bare = {"is": "file", "path": [], "size": 0, "hash": digest(), "data": b""}
        assert mode_after(bare) == 0o640, "from an object: 0666, less the umask"
        target.unlink()
        write(target, [{**FOLDER, "mode": 0o700}, small([b"a"]), END], mode=0o640)
        assert stat.S_IMODE(target.stat().st_mode) == 0o750, "who may read a folder's files may enter it"
        assert stat.S_IMODE((target / "a").stat().st_mode) == 0o640
    finally:
        os.umask(mask)


def test_times_are_kept_where_asked(tmp_path):
    write(tmp_path / "file", [small([], mtime=1_000_000_007), END], preserve=True)
    assert (tmp_path / "file").stat().st_mtime_ns == 1_000_000_007
    write(tmp_path / "top", [{**FOLDER, "mtime": 5}, small([b"a"], mtime=-7), END], preserve=True)
    assert (tmp_path / "top").stat().st_mtime_ns == 5 and (tmp_path / "top" / "a").stat().st_mtime_ns == -7
    write(tmp_path / "file", [small([], mtime=1_000_000_007), END])
    assert (tmp_path / "file").stat().st_mtime_ns > 1_000_000_007


@pytest.mark.parametrize("names", [("nobody", "daemon"), (12345, 23456), ("12345", None)])
def test_owners_are_set_where_asked(tmp_path, names):
    if os.geteuid():
        with pytest.raises(PermissionError):
            write(tmp_path / "file", [small([]), END], owner=names[0])
        return
    import grp
    import pwd

    user, group = names
    write(tmp_path / "file", [small([]), END], owner=user, group=group)
    info = (tmp_path / "file").stat()
    assert info.st_uid == (pwd.getpwnam(user).pw_uid if user == "nobody" else 12345)
    assert info.st_gid == (grp.getgrnam(group).gr_gid if group == "daemon" else 23456 if group else 0)
    write(tmp_path / "file", [small([], b"two"), END])
    assert (tmp_path / "file").stat().st_uid == info.st_uid, "a file that is replaced keeps its owner"
    nobody = pwd.getpwnam("nobody").pw_uid
    write(tmp_path / "kept", [small([], owner=[7, 7, "nobody", None]), END], preserve="owner")
    assert ((tmp_path / "kept").stat().st_uid, (tmp_path / "kept").stat().st_gid) == (nobody, 7)


def test_a_user_that_does_not_exist_is_a_usage_error(tmp_path):
    with pytest.raises(contextree.UsageError, match="there is no user 'no-such-user'"):
        write(tmp_path / "file", [small([]), END], owner="no-such-user")
    with pytest.raises(contextree.UsageError, match="there is no group"):
        write(tmp_path / "file", [small([]), END], group="no-such-group")
    assert census(tmp_path) == {}


def test_into_a_folder_that_is_there_files_come_one_by_one(tmp_path):
    top = tmp_path / "top"
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "old").write_text("old")
    (top / "sub" / "other").write_text("other")
    (top / "link").symlink_to("nowhere")
    write(top, [FOLDER, {"is": "link", "path": [b"link"], "target": b"sub"}, {**FOLDER, "path": [b"sub"]},
                small([b"sub", b"old"], b"new"), END])
    assert census(top) == {"link": "-> sub", "sub": None, "sub/old": b"new", "sub/other": b"other"}


@pytest.mark.parametrize(("where", "kind_of", "error"), [
    ("", "file", IsADirectoryError), ("missing/file", "file", FileNotFoundError),
    ("plain/file", "file", NotADirectoryError),
    ("plain", "folder", NotADirectoryError), ("missing/", "file", IsADirectoryError), (".", "file", IsADirectoryError),
    ("x" * 300, "file", OSError), ("missing/top", "folder", FileNotFoundError)])
def test_a_destination_that_cannot_be_is_the_error_of_the_system_with_its_path(tmp_path, where, kind_of, error):
    (tmp_path / "plain").write_text("plain")
    path = os.path.join(tmp_path, where) if where else str(tmp_path)
    with pytest.raises(error) as caught:
        write(path, [small([]) if kind_of == "file" else FOLDER, END])
    assert caught.value.filename == path and caught.value.errno
    assert census(tmp_path) == {"plain": b"plain"}


def test_names_up_to_the_limit(tmp_path, kind):
    for name in ("n" * 255, "\u00e9" * 127, "a\nb", " ", "-rf", "~", "\udce9"):
        write(tmp_path / name, [small([], b"1"), END])
        write(tmp_path / name, [small([], b"2"), END])
        assert (tmp_path / name).read_bytes() == b"2"
    assert len(list(tmp_path.iterdir())) == 7


# -- both ends together


def test_sparse_files_stay_sparse(tmp_path):
    chance = random.Random(7)
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        for _ in range(20):
            file.seek(chance.randrange(64 * MB))
            file.write(chance.randbytes(chance.randrange(1, 300_000)))
        file.truncate(80 * MB)
    source = PathSource(os.fsencode(path), {})
    write(tmp_path / "copy", source.messages())
    source.close()
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()
    assert allocated(tmp_path / "copy") <= allocated(path) + MB


def test_objects_are_read_to_their_end(tmp_path):
    import io

    data = os.urandom(MB)
    for source in (data, bytearray(data), memoryview(data), io.BytesIO(b"before" + data)):
        if isinstance(source, io.BytesIO):
            source.read(6)
        write(tmp_path / "file", ObjectSource(source).messages())
        assert (tmp_path / "file").read_bytes() == data
    for wrong in (io.StringIO("text"), 5, None, ["a"]):
        with pytest.raises(contextree.UsageError):
            list(ObjectSource(wrong).messages())
