"""What the agent (``warm.py``) and the template process (``template.py``) say to each other."""

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

STARTED, ENDED, STALE, KILL = b"s", b"e", b"o", b"k"
HEADER = struct.Struct("!II")  # of a request: the lengths of its dict and of its archive
NEWS = struct.Struct("!ci")  # STARTED, ENDED or STALE, and a wait status
PID = struct.Struct("!i")  # what the template says when it gives away a process that runs a module again and again
END = struct.Struct("!ii")  # what a module's process says to the template last: its number, and a wait status


def tell(news: "socket.socket", what: bytes, status: int = 0) -> None:
    """Say something of a module, to who waits for it if anybody does."""
    try:
        news.sendall(NEWS.pack(what, status))
    except OSError:
        pass
