"""The reading end by itself: what is sent of files, folders and special files, and what is noticed while it is read."""

import os
import shutil
import socket

import pytest

import contextree
from contextree.parent import filesource, transfer
from contextree.parent.filesource import PathSource
from tests.files.tools import allocated

MB = 1 << 20


def messages(path, **options):
    source = PathSource(os.fsencode(path), options)
    try:
        return list(source.messages())
    finally:
        source.close()


def content(found):
    """The pieces of the one file in ``found``."""
    if "data" in found[0]:
        return [found[0]["data"]] if found[0]["data"] else []
    return [message for message in found if type(message) is not dict]


def names(found):
    return [(message["is"], b"/".join(message["path"])) for message in found if type(message) is dict
            and "path" in message]


@pytest.mark.parametrize("size", [0, 1, transfer.SMALL, transfer.SMALL + 1, transfer.CHUNK, 3 * transfer.CHUNK + 7])
def test_a_file_is_announced_sent_and_hashed(tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    found = messages(tmp_path / "file")
    assert found[0]["is"] == "file" and found[0]["path"] == [] and found[-1] == {"is": "end"}
    assert found[0]["size"] in (size, None)
    assert b"".join(content(found)) == data
    assert len(found) == (2 if size <= transfer.SMALL else 3 + len(content(found)))


def test_holes_are_sent_as_holes(tmp_path):
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.seek(8 * MB)
        file.write(b"x" * 100)
        file.truncate(64 * MB)
    found = content(messages(path))
    assert sum(piece if type(piece) is int else len(piece) for piece in found) == 64 * MB
    assert sum(len(piece) for piece in found if type(piece) is bytes) <= MB
    plain = content(messages(path, sparse=False))
    assert all(type(piece) is bytes for piece in plain) and sum(map(len, plain)) == 64 * MB
    with open(tmp_path / "empty", "wb") as file:
        file.truncate(10 * MB)
    assert content(messages(tmp_path / "empty")) == [10 * MB]
    assert allocated(tmp_path / "empty") == 0


def test_files_of_proc_and_sys_have_content_whatever_their_length_says():
    assert b"".join(content(messages("/proc/self/status"))).startswith(b"Name:")
    assert len(b"".join(content(messages("/proc/kallsyms")))) > transfer.SMALL
    assert content(messages("/sys/class/net/lo/address")) == [b"00:00:00:00:00:00\n"]


def test_a_folder_is_walked_in_order_with_all_that_is_in_it(tmp_path):
    top = tmp_path / "top"
    (top / "b" / "deep").mkdir(parents=True)
    (top / "b" / "deep" / "file").write_text("1")
    (top / "b.txt").write_text("2")
    (top / "a\nb c").write_text("3")
    (top / "link").symlink_to("b/deep")
    with open(os.path.join(os.fsencode(top), b"caf\xe9"), "wb") as file:
        file.write(b"4")
    assert names(messages(top)) == [
        ("dir", b""), ("file", b"a\nb c"), ("dir", b"b"), ("dir", b"b/deep"), ("file", b"b/deep/file"),
        ("file", b"b.txt"), ("file", b"caf\xe9"), ("link", b"link")]
    assert ("link", b"link") not in names(messages(top, links="skip"))


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: socket.socket(socket.AF_UNIX).bind(os.fspath(path))],
                         ids=["fifo", "socket"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_s_30_what_is_no_file_is_refused_and_never_read(tmp_path, make):
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder / "odd")
    (folder / "plain").write_text("x")
    with pytest.raises(contextree.TransferError, match="odd is a "):
        messages(folder / "odd")
    with pytest.raises(contextree.TransferError, match="odd is a "):
        messages(folder)
    assert names(messages(folder, special="skip")) == [("dir", b""), ("file", b"plain")]


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/dev/tty"])
def test_s_30_devices_are_refused(path):
    with pytest.raises(contextree.TransferError, match="is a device"):
        messages(path)


@pytest.mark.parametrize(("target", "out"), [
    ("file", False), ("../file", False), ("./a/../b", True), ("/etc/passwd", True), ("..", False), ("../..", True),
    ("../../x", True), ("a/b/c", False), (".//./a", False)])
def test_s_31_a_symlink_that_leads_out_of_the_folder_is_refused(tmp_path, target, out):
    top = tmp_path / "top"
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "link").symlink_to(target)
    if out:
        with pytest.raises(contextree.TransferError, match="leads out"):
            messages(top)
    else:
        assert ("link", b"sub/link") in names(messages(top))
    assert ("link", b"sub/link") in names(messages(top, links="all"))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_s_30_a_name_swapped_for_a_symlink_while_we_walk_is_not_followed(tmp_path, kind, monkeypatch):
    """The swap comes between the look at the name and its opening: the worst moment."""
    top, secret = tmp_path / "top", tmp_path / "secret"
    top.mkdir()
    secret.mkdir()
    (secret / "key").write_text("canary")
    victim = top / "victim"
    victim.mkdir() if kind == "folder" else victim.write_text("x")
    lstat = os.lstat

    def swap(name, *args, **options):
        info = lstat(name, *args, **options)
        if name == b"victim":
            victim.rmdir() if kind == "folder" else victim.unlink()
            victim.symlink_to(secret if kind == "folder" else secret / "key")
        return info

    monkeypatch.setattr(filesource.os, "lstat", swap)
    with pytest.raises(contextree.TransferError, match="replaced by a symlink"):
        messages(top)


def test_s_30_a_folder_moved_away_while_we_walk_is_read_where_it_is(tmp_path):
    """Its descriptor is what we read by: a symlink at its old name changes nothing."""
    top, secret = tmp_path / "top", tmp_path / "secret"
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "a").write_text("mine")
    secret.mkdir()
    (secret / "a").write_text("canary")
    source = PathSource(os.fsencode(top), {})
    walk = source.messages()
    assert next(walk)["path"] == [] and next(walk)["path"] == [b"sub"]
    shutil.move(top / "sub", tmp_path / "elsewhere")
    (top / "sub").symlink_to(secret)
    assert next(walk)["data"] == b"mine"
    source.close()


def test_a_file_that_grows_is_sent_as_it_was(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"a" * MB)
    source = PathSource(os.fsencode(path), {})
    found = source.messages()
    first = [next(found), next(found)]
    with open(path, "ab") as file:
        file.write(b"b" * MB)
    rest = list(found)
    assert first[0]["size"] == MB
    assert b"".join(content(first + rest)) == b"a" * MB
    source.close()


@pytest.mark.parametrize("how", ["rewritten", "cut short", "removed and cut"])
@pytest.mark.parametrize("size", [100, MB], ids=["small", "large"])
def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path, monkeypatch, how, size):
    path = tmp_path / "file"
    path.write_bytes(b"a" * size)
    pread, reads = os.pread, []

    def change(fd, count, pos):
        data = pread(fd, count, pos)
        reads.append(pos)
        if len(reads) == 1:
            with open(path, "r+b") as file:
                if how == "removed and cut":
                    path.unlink()
                if how == "rewritten":
                    file.write(b"X" * 50)
                else:
                    file.truncate(50)
            os.utime(path) if path.exists() else None
        return data

    source = PathSource(os.fsencode(path), {})
    monkeypatch.setattr(filesource.os, "pread", change)
    with pytest.raises(contextree.TransferError, match="changed while it was read"):
        list(source.messages())
    source.close()


def test_too_many_folders_in_one_another_are_an_error(tmp_path):
    path = tmp_path
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(transfer.MAX_DEPTH + 2):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with pytest.raises(contextree.TransferError, match="more than 200 folders"):
        messages(path)
