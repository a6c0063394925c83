"""A client whose every byte the test chooses, beside ``contextree.testing.ScriptedChild``."""

import contextlib
import os
import socket

from contextree.core import process
from contextree.core.wire import values
from contextree.core.wire.frames import NUMBER
from contextree.parent.knock import GREETING, MAGIC
from contextree.testing import ScriptedChild


def knock(path, timeout=10.0):
    """A connection to a listener that has said nothing yet."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout)
    try:
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


def greeting(token, facts=None, magic=MAGIC, size=None):
    """The bytes that a client says first."""
    data = values.encode({"version": [3, 11, 7], "executable": "scripted", "platform": "linux"}
                         if facts is None else facts)
    return GREETING.pack(magic, token[:16], token[16:], len(data) if size is None else size) + data


class ScriptedClient(ScriptedChild):
    """Joins by ``invitation``; frames are then written and read by the test. ``welcome`` is what it was told."""

    def __init__(self, invitation, timeout=10.0, facts=None):
        self.timeout = timeout
        self._rest = b""
        self._grown = []
        self.side = None
        self.sock = knock(invitation.path, timeout)
        process.own(self.sock.fileno())
        self.sock.sendall(greeting(invitation.token, facts))
        assert self.read(1) == b"+"
        self.welcome = process.loads(self.read(NUMBER.unpack(self.read(4))[0]))
        self.id = self.welcome["id"]
        self.name = self.welcome["name"]
        self.parent = self.welcome["parent"]

    def close(self):
        """Hang up."""
        if self.sock is not None:
            process.disown(self.sock.fileno())
            self.sock.close()
            self.sock = None


def in_fork(function, *args, uid=None):
    """Run ``function`` in a plain fork of this process, as ``uid``; what it returns, as text, or the error that it
    raised as ``Kind: text``."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if uid is not None:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            try:
                text = str(function(*args))
            except BaseException as error:
                text = "%s: %s" % (type(error).__name__, error)
            os.write(into, text.encode()[:60000])
        finally:
            os._exit(0)
    os.close(into)
    with open(out, "rb") as file:
        text = file.read().decode()
    os.waitpid(pid, 0)
    return text


def closed_by_peer(sock):
    """Whether the other end has hung up; what it said before is dropped."""
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(65536):
            pass
    return True
