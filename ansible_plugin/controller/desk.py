"""Where workers ask the multiplexer: its end of their lines (``line``), a thread for each.

Who waits for an answer and goes away has cancelled what he waited for: ``caller`` is how a method of the service is told.
"""

import contextlib
import os
import select
import socket
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import contextree
from contextree.core import process
from contextree.parent import place
from contextree.parent.knock import peer, same
from contextree.parent.service import MARK

from . import line

BACKLOG = 1024
PATIENCE = 10  # seconds in which a token has to be shown
PAUSE = 0.05  # seconds without accepting when there is no descriptor left

_present = threading.local()


class Caller:
    """Somebody who waits for an answer. From any thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.gone = False
        self.callbacks: list[Callable[[], object]] = []

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Have this called when he goes away before he is answered; now, if he has gone."""
        with self.lock:
            if not self.gone:
                self.callbacks.append(callback)
                return
        callback()

    def answered(self) -> None:
        """What he waited for is over."""
        with self.lock:
            self.callbacks.clear()

    def left(self) -> None:
        """He has gone."""
        with self.lock:
            self.gone = True
            callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback()


def caller() -> Any:
    """Who waits for what this thread does: somebody with ``on_cancel``."""
    return getattr(_present, "caller", None) or contextree.current_call()


class Desk:
    """Serves one object; what of it may be called is marked by ``contextree.expose``. As a context manager, it is there
    until the end of that."""

    def __init__(self, service: Any) -> None:
        self.service = service
        self.secret = os.urandom(line.SIZE)
        self.place = place.Place(place.make_directory(), line.SOCKET, True)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self.place.take_lock()
            self.sock.bind(self.place.through())
            self.place.socket = place.identity(self.place.name, self.place.fd)
            os.chmod(self.place.name, 0o600, dir_fd=self.place.fd)
            self.sock.listen(BACKLOG)
            process.own(self.sock.fileno())  # what is forked from here has none of it
            process.keep.append(self.sock)
            self.place.write(line.TOKEN, self.secret.hex())
        except BaseException:
            self.sock.close()
            self.place.leave()
            raise
        self.token = os.path.join(self.place.directory, line.TOKEN)  # the path of the file
        self.callers: dict[int, Caller] = {}
        self.epoll = select.epoll()
        self.epoll.register(self.sock, select.EPOLLIN)
        threading.Thread(target=self._watch, name="desk", daemon=True).start()

    def __enter__(self) -> "Desk":
        return self

    def __exit__(self, *error: object) -> None:
        self.place.leave()  # the threads end with the process

    def _watch(self) -> None:
        """See who comes, and who goes."""
        while True:
            for fd, _ in self.epoll.poll():
                if fd == self.sock.fileno():
                    self._accept()
                else:
                    caller = self.callers.get(fd)
                    if caller is not None:
                        with contextlib.suppress(Exception):
                            caller.left()

    def _accept(self) -> None:
        try:
            sock, _ = self.sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:  # no descriptor left
            threading.Event().wait(PAUSE)
            return
        fd = process.own(sock.detach())
        try:
            threading.Thread(target=self._serve, args=(fd,), name="worker", daemon=True).start()
        except RuntimeError:  # no more threads
            process.close(fd)

    def _serve(self, fd: int) -> None:
        """Answer somebody until he goes."""
        caller = _present.caller = Caller()
        try:
            if peer(fd)[1] != os.geteuid() or not self._is_let_in(fd):
                return
            self.callers[fd] = caller
            self.epoll.register(fd, select.EPOLLRDHUP | select.EPOLLET)
            while (asked := line.receive(fd)) is not None:
                self._answer(fd, caller, *asked)
        except OSError:
            pass  # he went while he was answered
        finally:
            if self.callers.pop(fd, None) is not None:
                self.epoll.unregister(fd)
            process.close(fd)

    def _is_let_in(self, fd: int) -> bool:
        """Whether the token is shown."""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        shown, end = b"", time.monotonic() + PATIENCE
        while len(shown) < line.SIZE:
            if not poll.poll(max(0, end - time.monotonic()) * 1000):
                return False
            part = os.read(fd, line.SIZE - len(shown))
            if not part:
                return False
            shown += part
        return same(shown, self.secret)

    def _answer(self, fd: int, caller: Caller, name: str, args: tuple[Any, ...], waits: bool) -> None:
        method = getattr(self.service, name, None)
        if not hasattr(method, MARK):
            line.send(fd, (False, contextree.UsageError("there is no %r to be called" % name)))
        elif not waits:
            threading.Thread(target=self._done, args=(method, args), daemon=True).start()
        else:
            answer = self._done(method, args)
            caller.answered()
            try:
                line.send(fd, answer)
            except (TypeError, AttributeError, ValueError, ImportError) as error:  # it is no plain value
                line.send(fd, (False, told(error)))

    @staticmethod
    def _done(method: Any, args: tuple[Any, ...]) -> tuple[bool, Any]:
        """What comes of a call."""
        if not hasattr(_present, "caller"):
            _present.caller = Caller()  # nobody waits
        try:
            return True, method(*args)
        except contextree.ContextreeError as error:
            return False, error
        except BaseException as error:
            return False, told(error)


def told(error: BaseException) -> BaseException:
    """An error of another kind, for somebody elsewhere: one of Python's own as it is."""
    if isinstance(error, OSError) and type(error).__module__ == "builtins":
        return error
    text = str(error)
    return contextree.RemoteError(
        "%s in the multiplexer: %s" % (type(error).__qualname__, text), text=text, context="multiplexer",
        type_name="%s.%s" % (type(error).__module__, type(error).__qualname__),
        traceback="".join(traceback.format_exception(error)))
