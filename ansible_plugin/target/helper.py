"""The agent's end of a process that runs one module again and again (``again.py``)."""

import marshal
import select
import socket
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict

SHORT = 1 << 16  # bytes of a task, or of an answer, that go in one message
LOOK = 0.25  # seconds after which a thread that waits sees that an exception was raised in it


class Helper:
    """A process that runs one module again and again, see ``again.py``. For one thread at a time."""

    def __init__(self, control: "socket.socket", pid: int, digest: str, kill: "Callable[[int], None]") -> None:
        self.control = control
        self.pid = pid
        self.digest = digest
        self.kill_there = kill

    def run(self, digest: str, task: "Dict[str, Any]") -> "Any":
        """The result; None: there is none, and will be none any more. What ends the call kills the process."""
        text = marshal.dumps(task)
        if len(text) > SHORT:
            return None
        call = watched(self)
        poll = select.poll()
        poll.register(self.control.fileno(), select.POLLIN)
        try:
            self.control.send(text)
            while not poll.poll(int(LOOK * 1000)):
                pass
            answer = self.control.recv(SHORT)
        except OSError:
            answer = b""
        except BaseException:
            self.kill()
            raise
        if call is not None:
            call.check()
        if not answer:
            return None
        status, out, err = marshal.loads(answer)
        return status, out, err

    def kill(self) -> None:
        """Have it killed, and wait no longer. From any thread."""
        try:
            self.control.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has ended
        threading.Thread(target=self.kill_there, args=(self.pid,), name="contextree:ansible", daemon=True).start()

    def close(self) -> None:
        """It ends when it has done what it does."""
        self.control.close()


def watched(run: "Any") -> "Any":
    """The call of contextree in which this runs, if it is one: when its caller cancels it, the module is killed. It is
    not when the link is lost: it may be the module that did that, and its work is to be finished."""
    if "contextree.core" not in sys.modules:
        return None
    from contextree.core.wire.errors import CallCancelled, CallTimeout, UsageError
    from contextree.parent.current import current_call

    try:
        call = current_call()
    except UsageError:
        return None

    def over() -> None:
        if isinstance(call._call.channel.ended, (CallCancelled, CallTimeout)) or call.time_left() == 0:
            run.kill()

    call.on_cancel(over)
    return call
