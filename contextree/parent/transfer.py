"""What both ends of a file transfer know: the messages, the limits, the errors.

A transfer is a source, which reads, and a sink, which puts what comes in place; between them goes one row of messages,
over a channel, over several in a row, or (in tests) over nothing at all:

=====  ==========================================================================================================
bytes  the next part of the file that was announced last
int    a hole of so many bytes in it
dict   ``is``: "file", "dir" or "link" with ``path`` (a list of names, as bytes; empty for the root), ``mode``,
       ``mtime`` and more; "done" with the file's ``hash``; "end" after everything
=====  ==========================================================================================================

Names go as bytes, which is what they are to the kernel: neither end's encoding has a say in them. What comes is checked
as if it came from an enemy, because it may: names are single parts of a path and come in strictly rising order, so that
none comes twice; a link stays within its tree; no file is longer than was announced.

The hash is SHA-256: 1.9 GB/s with the instructions that most processors now have for it, where BLAKE2b is at 1.0, and
the only one of the two that systems in FIPS mode allow.
"""

import hashlib
import os
from _struct import Struct
from collections import namedtuple

from contextree.core.wire.errors import ProtocolError, UsageError, WorldError
from contextree.parent.calls import register_exception

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Union

    Options = Dict[str, Any]
    Message = Union[bytes, int, Dict[str, Any]]

CHUNK = 1 << 19  # bytes of a file in one message; with half of it both ends need a tenth more time of the processor
SMALL = 1 << 16  # a file up to this travels in the message that announces it
MAX_DEPTH = 200  # of folders in one another: each is an open descriptor at both ends
HOLE = Struct("!4sQ")


@register_exception
class TransferError(WorldError):
    """A file was not transferred, and nothing of it was put in place: it changed while it was read, what arrived is not
    what was sent, it is larger than ``max_size``, it is no regular file, or a symlink leads out of its tree.

    What the operating system refuses is an OSError instead, with the path that it is about.

    >>> web.get("/dev/zero", "zero")
    Traceback (most recent call last):
    TransferError: /dev/zero is a device: only regular files, folders and symlinks are transferred
    """


class Transferred(namedtuple("Transferred", "files size resumed")):
    """What was transferred: how many ``files``, their ``size`` together, and how much of that was ``resumed``: there
    already.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     web.put(b"Hello", folder + "/greeting")
    Transferred(files=1, size=5, resumed=0)
    """

    __slots__ = ()


def result_of(value: "Any") -> Transferred:
    """The Transferred whose numbers a context has sent, checked."""
    if type(value) not in (list, tuple) or [type(each) for each in value] != [int, int, int]:
        raise ProtocolError("%.80r is not the result of a transfer" % (value,))
    return Transferred(*value)


def partial_of(value: "Any") -> "tuple[int, bytes]":
    """What a context says that it has of a broken transfer, checked: size, hash."""
    if type(value) not in (list, tuple) or [type(each) for each in value] != [int, bytes] or value[0] < 0:
        raise ProtocolError("%.80r is no part of a file" % (value,))
    return value[0], value[1]


class Digest:
    """The hash of a file as it is transferred: of its data, and of where its holes are."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def add(self, piece: "bytes | int") -> None:
        """Data, or the length of a hole."""
        self.hash.update(piece if isinstance(piece, bytes) else HOLE.pack(b"hole", piece))

    def value(self) -> bytes:
        """The hash of all that was added."""
        return self.hash.digest()


def prefix_hash(fd: int, size: int) -> bytes:
    """The hash of the first ``size`` bytes of a file, holes read as zeros; of what there is, if it is shorter."""
    total = hashlib.sha256()
    pos = 0
    while pos < size:
        data = os.pread(fd, min(CHUNK, size - pos), pos)
        if not data:
            break
        total.update(data)
        pos += len(data)
    return total.digest()


def shown(path: "bytes | str") -> str:
    """A path for messages."""
    return path if isinstance(path, str) else path.decode("utf-8", "surrogateescape")


def path_bytes(path: "Any", what: str) -> bytes:
    """A path as the kernel has it, from str, bytes or PathLike; UsageError for what cannot be one."""
    try:
        path = os.fspath(path)
    except TypeError:
        raise UsageError("%s wants a path, not %r" % (what, type(path).__name__)) from None
    data = path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape")
    if not data or b"\0" in data:
        raise UsageError("%s wants a path, not %r" % (what, path))
    return data


class Naming:
    """Within the block an OSError is one about ``path``, whatever descriptor or temporary name it came from."""

    def __init__(self, path: bytes) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: "Any", error: "Any", trace: "Any") -> None:
        if isinstance(error, OSError) and error.errno is not None:  # CallTimeout is an OSError without
            raise OSError(error.errno, error.strerror, shown(self.path)) from None


def leads_out(parts: "list[bytes]", target: bytes) -> bool:
    """Whether a symlink at ``parts`` of a tree may lead out of it.

    ``..`` may come first, once for each real folder that the link lies in, and not later: behind the name of another
    link it would lead out of wherever that leads."""
    if target[:1] == b"/":
        return True
    depth = len(parts) - 1
    down = False
    for part in target.split(b"/"):
        if part == b"..":
            depth -= 1
            if down or depth < 0:
                return True
        elif part not in (b"", b"."):
            down = True
    return False


def check_link(parts: "list[bytes]", target: bytes, path: bytes, links: str) -> None:
    """Raise TransferError for a symlink that leads out, unless all are wanted."""
    if links != "all" and leads_out(parts, target):
        raise TransferError("the symlink %s leads out of what is transferred, to %s: links='all' keeps such links, "
                            "links='skip' leaves symlinks out" % (shown(path), shown(target)))
