"""The launcher of ``machinectl(by_shell=True)``: a program that hands its descriptors to a command elsewhere.

    python -ISc PROGRAM name=NAME user=USER -- COMMAND

It listens at the abstract socket NAME, runs COMMAND, whose terminal nobody needs, and waits for it to connect, or to
end. To the first who connects as USER it sends its own stdin, stdout and stderr; these are the other's from then on,
and no byte passes through here. Then it waits for the command, and ends with its status.

NAME is in COMMAND's words, which everybody can read. Nobody else can listen there, since we do before COMMAND is run;
and who connects is asked of the kernel: somebody who is not USER is sent away. Who is could as well trace the
interpreter.

It uses no module of contextree and nothing later than 3.6. Each failure is one line ``contextree: PHASE: why`` on
stderr and status 121.
"""

import os
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, NoReturn

FAILED = 121


def main(words: "List[str]") -> "NoReturn":
    """Do as the words say; does not return."""
    cut = words.index("--")
    options = dict(word.split("=", 1) for word in words[:cut])  # type: Dict[str, str]
    uid = number(options["user"])
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind("\0" + options["name"])
    except OSError as error:
        fail("start", "cannot listen at the abstract socket %s: %s" % (options["name"], error.strerror))
    listener.listen(1)
    process = start(words[cut + 1:])
    terminal = process.stdout.fileno()
    if not give(listener, terminal, uid):
        status = process.wait()
        if status:  # it has said why
            os._exit(status if status > 0 else FAILED)
        fail("boot", "the session ended before {python} ran in it")
    listener.close()
    for fd in (0, 1):
        os.close(fd)
    while copy(terminal):
        pass
    os._exit(max(process.wait(), 0))


def fail(phase: str, text: str) -> "NoReturn":
    """Say why, and end."""
    os.write(2, ("contextree: %s: %s\n" % (phase, text)).encode("utf-8", "replace"))
    os._exit(FAILED)


def number(user: str) -> int:
    """The uid of an account."""
    if user.isdigit():
        return int(user)
    import pwd

    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        fail("login", "there is no such user here: %s" % user)


def start(command: "List[str]") -> "Any":
    """Run the command; its input stays open, what it writes is read here."""
    import subprocess

    reader, _writer = os.pipe()  # an end of file would be typed as ^D
    try:
        return subprocess.Popen(command, stdin=reader, stdout=subprocess.PIPE, bufsize=0)
    except OSError as error:
        fail("start", "cannot run %s: %s" % (command[0], error.strerror))


def give(listener: socket.socket, terminal: int, uid: int) -> bool:
    """Wait for the one who is meant and send him our descriptors; False when the command ends before."""
    import array
    import select
    import struct

    while True:
        ready = select.select([listener.fileno(), terminal], [], [])[0]
        if terminal in ready and not copy(terminal):
            return False
        if listener.fileno() not in ready:
            continue
        peer = listener.accept()[0]
        with peer:
            facts = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            if struct.unpack("iii", facts)[1] != uid:
                continue
            peer.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
            return True


def copy(terminal: int) -> bool:
    """Tell what is said on the terminal on our stderr; False at its end."""
    data = os.read(terminal, 4096)
    if data.strip():
        os.write(2, data.replace(b"\r\n", b"\n"))
    return bool(data)


if __name__ == "__main__":
    main(sys.argv[1:])
