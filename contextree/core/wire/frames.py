"""The frame: 20 bytes of header, then at most 64 KiB.

    u8 version and kind | u8 flags | u8 class | u8 hops | u32 channel | u32 dst | u32 src | u32 length   (big endian)

A message is one or more DATA frames (the first one may be OPEN), all but the last flagged MORE. A channel is named by
the two contexts, its number, and who opened it (flag OPENER on the opener's frames): both ends count for themselves.
"""

from _struct import Struct

HEADER = Struct("!BBBBIIII")
SIZE = 20
MAX_PAYLOAD = 65536
VERSION = 1 << 4
MAX_HOPS = 64

# kinds; the first group belongs to a channel
DATA, OPEN, CREDIT, RESET = 1, 2, 3, 4
# between a context and the tree
GOAWAY, ROUTE_ADD, ROUTE_DEL, IDS, LOG, PING, PONG, HELLO = 5, 6, 7, 8, 9, 10, 11, 12
# between the two ends of a link, never forwarded
ACK, PROBE, ECHO = 13, 14, 15

MORE, FIN, OPENER, RAW = 1, 2, 4, 8  # flags; RAW: the message is a bytes object itself, with no form byte before it
CONTROL, CALLS, BULK, LOGS = 0, 1, 2, 3  # classes

# the head of an OPEN's message: what is opened, options of that kind, threads asked for, credit for the answer,
# milliseconds until the deadline (0: none)
OPEN_HEAD = Struct("!BBHII")
CALL, STREAM, CHANNEL, MODULES, RESOURCE, SHARE = 1, 2, 3, 4, 5, 6  # what is opened
# options: the answer may be a pickle; needs the master's __main__; run on a service thread; a pickle of protocol 5
PICKLE, MAIN, SERVICE, PICKLE5 = 1, 2, 4, 8

# why a channel was reset; the text follows
CANCEL, NO_CHANNEL, NO_CONTEXT, REFUSED, TOO_BIG, DIED, BROKEN, TIMEOUT = 0, 1, 2, 3, 4, 5, 6, 7

NUMBER = Struct("!I")


def frame(kind: int, flags: int, cls: int, channel: int, dst: int, src: int,
          payload: "bytes | memoryview" = b"") -> bytes:
    """One whole frame."""
    return HEADER.pack(VERSION | kind, flags, cls, 0, channel, dst, src, len(payload)) + payload
