"""In a child that was reached over a network: notice that the network to its parent is gone.

The parent's ssh asks every second and notices within seconds. The other end does not: sshd, and so this process, wait
for data that never comes, for hours. A heartbeat that the parent must answer would be simple, but a parent that is
stopped, or busy in C code, does not answer either, and its children must not die of that. The kernel knows the
difference: data for a host that is alive is acknowledged by its TCP, whatever its processes do; data for one that
cannot be reached is sent again and again. So:

* when nothing was read from the parent for a second, a PROBE is sent, which makes the TCP connection carry something;
* when nothing was read for ``silence`` seconds, and the kernel has sent something three times again without an
  acknowledgement, the link is closed. The connection is the one of SSH_CONNECTION; its line in ``/proc/net/tcp`` is
  looked up only then, as reading that file takes long on a host with many connections.

Where the connection cannot be found (another network namespace, no /proc, a session without SSH_CONNECTION) nothing is
ever closed.
"""

import os
import socket

from contextree.core import main as life
from contextree.core.wire.frames import CONTROL, PROBE, frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from contextree.core.router import Router

EVERY = 1.0  # seconds
RETRIES = 3  # the third comes 1.4 s after the first sending, with Linux's shortest timeout of 200 ms that doubles


class Watch:
    """Looks at the link to the parent each second. ``connection`` is the text of SSH_CONNECTION."""

    def __init__(self, router: "Router", connection: str, silence: float) -> None:
        self.router = router
        self.connection = connection
        self.silence = silence
        router.broker.timer(EVERY, self.look)

    def look(self) -> None:
        """Ask, or give up. Loop thread."""
        link = self.router.upstream
        if link.closed:
            return
        broker = self.router.broker
        quiet = broker.clock() - link.last_read
        if quiet >= self.silence:
            count = retransmissions(self.connection)
            if count is not None and count >= RETRIES:
                link.close("the network does not answer for %.0f s (%d retransmissions)" % (quiet, count))
                return
        if quiet >= EVERY * 0.9 and link.probe_sent is None:
            link.probe_sent = broker.clock()
            link.probed = 0
            link.send(CONTROL, frame(PROBE, 0, CONTROL, 0, 0, link.own_id))
        broker.timer(EVERY, self.look)


def retransmissions(connection: str, folder: str = "/proc/net") -> "Optional[int]":
    """How often the kernel has sent the oldest unacknowledged data of an SSH session's connection again.

    ``connection`` is ``client port server port``, as in SSH_CONNECTION. None when the connection is not to be found."""
    try:
        client, client_port, server, server_port = connection.split()
        local = ":%04X" % int(server_port)
        remote = ":%04X" % int(client_port)
        wanted = packed(server), packed(client)
    except (ValueError, OSError):
        return None
    for name in ("tcp6", "tcp"):
        try:
            with open("%s/%s" % (folder, name)) as table:
                for line in table:
                    words = line.split(None, 7)
                    if (len(words) > 6 and words[1].endswith(local) and words[2].endswith(remote)
                            and (unhex(words[1]), unhex(words[2])) == wanted):
                        return int(words[6], 16)
        except (OSError, ValueError):
            continue
    return None


def packed(address: str) -> bytes:
    """An address as 16 bytes; one of IPv4 as IPv6 has it."""
    address = address.partition("%")[0]
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address)
    return b"\0" * 10 + b"\xff\xff" + socket.inet_pton(socket.AF_INET, address)


def unhex(text: str) -> bytes:
    """The same of an address in /proc/net/tcp: words of 32 bits, each in the machine's order."""
    raw = bytes.fromhex(text.partition(":")[0])
    if socket.htons(1) != 1:
        raw = b"".join(raw[at:at + 4][::-1] for at in range(0, len(raw), 4))
    return raw if len(raw) == 16 else b"\0" * 10 + b"\xff\xff" + raw


def start(silence: float) -> None:
    """Begin to watch the link of this child, where it came by ssh."""
    router = life.child.router
    connection = os.environ.get("SSH_CONNECTION", "")
    if connection:
        router.broker.defer(Watch, router, connection, silence)
