"""What masters call in a job, on a service thread of it: becoming one, and what there is to know."""

import os
import sys
from _signal import SIG_DFL, SIGHUP, getsignal  # type: ignore[import-not-found]  # signal makes enums of what it returns

from contextree.core import main as life
from contextree.core import process
from contextree.core.calls import here
from contextree.core.wire.errors import UsageError
from contextree.core.wire.frames import MAIN
from contextree.parent import job, job_door, job_place, waits
from contextree.parent.engine import engine_of
from contextree.parent.place import Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

# what functions of calls use of contextree and may not be there yet: all but files, and methods for other hosts
AHEAD = ("connect.local", "connect.options", "connect.plan", "connect.quote", "core.first_stage") + tuple(
    "parent." + name for name in (
        "calls", "cancelling", "census", "channel", "channel_end", "child", "child_state", "command", "control",
        "coroutines", "current", "door", "fork", "future", "grower", "heartbeat", "lasting", "lines", "linkwatch",
        "main_thread", "mover", "popen", "program", "pumps", "reaper", "resources", "router", "runner", "running",
        "service", "serving", "session", "spawn", "steps", "tasks", "template", "tty", "waits", "watched", "watchman"))
making = process.allocate_lock()
CHUNK = 1 << 18  # bytes of output in one answer


def keeper() -> "Any":
    """The Keeper of this process, if it is a job."""
    return getattr(life.child, "keeper", None)


def job_here() -> "job.Keeper":
    """The Keeper of this process. UsageError where it is no job."""
    found = keeper()
    if found is None:
        raise UsageError("%s is no job: detach(keep=True) makes one" % here.router.name)
    return found  # type: ignore[no-any-return]


def become(directory: "str | None", time_to_live: "float | None", limit: int) -> str:
    """Make a job of this process, if it is none; its token."""
    job_door.check_platform()
    with making:
        found = keeper()
        if found is None:
            found = make(directory, time_to_live, limit)
    return token(found.secret, found.directory)


def make(directory: "str | None", time_to_live: "float | None", limit: int) -> "job.Keeper":
    """Make it; after an error all is as it was."""
    if life.child is None or here.router is not life.child.router:
        raise UsageError("%s shares its process with others: it cannot become a job" % here.router.name)
    path = job_place.make(directory)
    where = None
    try:
        where = Place(path, job_place.SOCKET, True)
        sock = job_door.open_socket(where)
    except BaseException:
        if where is not None:
            where.leave()
        os.rmdir(path) if os.path.isdir(path) else None
        raise
    try:
        engine_of(life.child.router)
        made = job.Keeper(where, sock, os.urandom(24), time_to_live, limit)
        process.own(sock.fileno())
        process.keep.append(sock)
        stand_alone()
        made.broker.call(made.begin)  # type: ignore[attr-defined]  # a Loop, since there is an engine
        written = waits.waiter()
        fetch_ahead()
        made.clerk.do(written.wake)
        written.wait(10)  # so that it is found from now on
    except BaseException:
        if sock in process.keep:
            process.keep.remove(sock)
            process.disown(sock.fileno())
        sock.close()
        where.leave()
        raise
    return made


def fetch_ahead() -> None:
    """Have what calls may import once nobody is there to be asked: what the master shares, and contextree's own."""
    importer = life.child.importer
    importer.shared.update("contextree." + name for name in AHEAD)
    if importer.main is None and any(getattr(call, "options", 0) & MAIN for call in list(life.child.calls.work.items)):
        importer.record("__main__")
    for name in list(importer.shared):  # the first one asks for all
        if name not in sys.modules:
            importer.record(name)


def token(secret: bytes, directory: str) -> str:
    """The text of a token."""
    from base64 import urlsafe_b64encode

    return "%s@%s" % (urlsafe_b64encode(secret).decode(), directory)


def stand_alone() -> None:
    """Depend on nobody: a session of our own where that can be had, no terminal, deaf to its hang-up."""
    if getsignal(SIGHUP) == SIG_DFL:
        # Python sets handlers on the main thread alone, which may be busy; faulthandler sets one from any. It writes a
        # line to where it is told and goes on. And unlike a signal that is ignored, this is not inherited by programs.
        import faulthandler

        null = open(os.devnull, "w")  # noqa: SIM115  for as long as the process lives
        process.own(null.fileno())
        process.keep.append(null)
        faulthandler.register(SIGHUP, file=null, all_threads=False, chain=False)
    if os.getsid(0) == os.getpid():
        try:
            import fcntl
            import termios

            terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            try:
                fcntl.ioctl(terminal, termios.TIOCNOTTY)
            finally:
                os.close(terminal)
        except (OSError, ImportError):
            pass  # there is none
        return
    try:
        os.setsid()
    except OSError:  # it leads a group in another's session
        try:
            os.setpgid(0, os.getpgid(os.getppid()))
            os.setsid()
        except OSError:
            pass  # its parent is in another session: then so is what could hang up


# -- what there is to know


def report() -> "dict[str, Any]":
    """What ``job_place.look`` would find, fresh."""
    found = job_here()
    facts = found.describe()
    facts.update(directory=found.directory, alive=True,
                 output=[found.output.start if found.output.before is None else found.output.before,
                         found.output.end])
    return facts


def wait_for(ready: "Callable[[], bool]", enlist: "Callable[[Callable[[], object]], object]") -> bool:
    """Wait until ``ready()``, looked at on the loop whenever one who was enlisted is woken; False: nobody waits for the
    answer any more."""
    call = here.call
    waiter = waits.waiter()
    over = []  # type: list[bool]
    ended = call.channel.on_end

    def on_end(channel: "Any", error: BaseException) -> None:
        ended(channel, error)
        over.append(True)
        waiter.wake()

    call.channel.on_end = on_end
    while not (over or call.cancelled):
        enlist(waiter.wake)
        if ready():
            return True
        waiter.wait()
    return False


def answer_of(number: int) -> "Any":
    """The answer of a kept call, as it is sent, once it is there; None where it was given to the master of then."""
    found = job_here()
    record = found.records.get(number)
    if record is None:
        raise UsageError("the job keeps no call %d" % number)
    wait_for(lambda: record.over, record.waiters.append)
    if record.data is not None:
        return record.data
    return job_place.read_result(found.directory, number)


def output_from(offset: int) -> "tuple[int, bytes, bool]":
    """(where it begins, bytes, whether there will be no more) of the output from ``offset`` on, once there is some."""
    found = job_here()
    output = found.output

    def over() -> bool:
        return all(record.over for record in list(found.records.values()))

    def enlist(wake: "Callable[[], object]") -> None:
        with output.lock:
            output.followers.append(wake)
        for record in list(found.records.values()):
            if not record.over:
                record.waiters.append(wake)

    wait_for(lambda: output.end > offset or (over() and not output.waiting), enlist)
    start, data = job_place.read_output(found.directory, offset, CHUNK)
    return start, data, not data and over() and not output.waiting


def output_now(offset: int) -> "tuple[int, bytes]":
    """(where it begins, bytes) of the output from ``offset`` on, as far as it has been read from those who write."""
    found = job_here()
    written = waits.waiter()
    found.clerk.do(written.wake)
    written.wait(10)
    return job_place.read_output(found.directory, offset, CHUNK)
