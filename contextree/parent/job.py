"""A job: a context that lives on when its master goes, keeps what its calls gave and what it wrote, and can be taken up
again. This half runs in the process of the job.

The process stays one and the same, with its loop and its main thread; the trees that it belongs to come and go. Each is
a ``Life``: a router, an engine, calls, a link upward. When the link of the present one is lost, its calls go on
(``job_calls``), and with them the contexts that the process has below itself in that tree, which it is now the root of;
they end when the last of those calls has. The next master, who has shown the token's secret at the door (``job_door``),
hands over a configuration as for a new child, and a new life begins beside the old one.

What is global to the process moves to the new life: ``life.child`` and what is in it, the importer, who gets log
records. Tables are the loop thread's; ``Record`` and ``KeptOutput`` say what other threads may do.
"""

import os
import sys
import time
from collections import deque

from contextree.core import main as life
from contextree.core import process
from contextree.core.importer import ABSENT, MAGIC
from contextree.core.logs import LINE, STDOUT
from contextree.core.process import loads
from contextree.core.router import Router
from contextree.core.streams import Link
from contextree.core.wire import values
from contextree.core.wire.errors import UsageError
from contextree.core.wire.flow import LOG_LIMIT
from contextree.core.wire.frames import CONTROL, HELLO, PING, SHARE, frame
from contextree.parent import boot, job_door, job_place, place
from contextree.parent.engine import Engine, engine_of
from contextree.parent.job_calls import JobCalls
from contextree.parent.job_life import GRACE, Life, Start, digest, log_to
from contextree.parent.job_output import Clerk, KeptOutput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Deque

    from contextree.parent.job_calls import Record

LOOK = 60.0  # seconds after which a job looks again whether its directory is still there
RECENT, RECENT_BYTES = 100, 1 << 24  # answers that may not have arrived
SOON = 0.05  # seconds until it is looked at again whether they have left
LISTED = 1000


class Keeper:
    """What makes a job of this process. ``place``: its directory; ``secret``: what its masters must know."""

    def __init__(self, where: "place.Place", sock: "Any", secret: bytes, time_to_live: "float | None",
                 limit: int) -> None:
        child = life.child
        self.child = child
        self.place = where
        self.directory = where.directory
        self.secret = secret
        self.time_to_live = time_to_live
        self.broker = child.broker
        self.started = time.time()
        self.first = child.calls
        engine = engine_of(child.router)
        self.life = Life(self, child.router, JobCalls(self, child.router, child.importer, child.calls))
        self.lives = [self.life]
        self.name = child.router.name
        self.held = True
        self.holder = "the master that made it a job"
        self.coming = None  # type: Any  # who has shown the secret, and is about to hand over
        self.records = {}  # type: dict[int, Record]
        self.recent = deque()  # type: Deque[Record]  # sent, and maybe not arrived
        self.asking = False  # whether they have
        self.count = 0
        self.dying = None  # type: Any
        self.left = False
        self.clerk = Clerk(self.broker.on_error)
        self.output = KeptOutput(self.broker, self.clerk, where.fd, limit, self.speak, self.room)
        self.door = job_door.Door(self, engine, where, sock)

    def begin(self) -> None:
        """From now on this is a job. Loop thread."""
        child = self.child
        if child.link.closed or child.leaving is not None:
            raise UsageError("%s is about to end" % self.name)
        child.calls = self.life.calls
        child.link.on_lost = self.lost
        child.router.on_goaway = self.goaway
        child.leave = self.leave  # type: ignore[method-assign]
        old = child.output  # type: ignore[attr-defined]  # what still has the old pipe writes on
        old.lines.emit = lambda line: self.output.keep(line + b"\n")
        old.end = lambda: None
        self.output.begin()
        child.keeper = self  # type: ignore[attr-defined]
        for record in self.life.calls.adopt():
            self.list(record)
        log_to(self)
        self.door.start()
        self.save()
        self.broker.timer(LOOK, self.look)

    # -- masters; loop thread

    def facts(self) -> "dict[str, Any]":
        """What a master is told at the door."""
        return {"bundle": digest(self.child.bundle), "name": self.name[-256:], "started": self.started}

    def may_come(self, knock: "Any", force: bool) -> "str | None":
        """Why a master who knows the secret cannot have this job now; None: it can."""
        if self.left or self.child.leaving is not None:
            return "it is about to end"
        if self.coming is not None and self.coming.fd is not None:
            return "another process is about to take it up"
        if self.held and not force:
            return ("it is held by %s, and that is still there: force=True takes it away from it"
                    % self.holder)
        self.coming = knock
        return None

    def take(self, fd: int, data: bytes, pid: int) -> None:
        """A new life begins on the descriptor ``fd``."""
        self.coming = None
        try:
            config = loads(data)
        except Exception:
            process.close(fd)
            raise
        if self.held:
            self.life.router.upstream.close("another master took the job up")
        if self.dying is not None:
            self.dying.cancel()
            self.dying = None
        child = self.child
        self.held = True
        self.holder = "process %d, as %s," % (pid, config["name"])
        child.config = dict(child.config, **config)
        router = Router(self.broker, config["id"], config["name"])
        router.max_message = config["max_message"]
        link = router.upstream = Link(self.broker, fd, fd, router.receive, self.lost, router.id, config["window"])
        link.peer = config["parent"]
        router.on_goaway = self.goaway
        importer = child.importer
        importer.router, importer.parent, importer.main = router, config["parent"], None
        with importer.lock:  # what nobody could answer, the new master may; and its main program is another
            for name, record in list(importer.records.items()):
                if record[1] == ABSENT or name == "__main__":
                    del importer.records[name]
        calls = JobCalls(self, router, importer, self.first)
        router.openers[SHARE] = importer.on_share
        router.engine = engine = Engine(router, config["ids"], child.bundle, trusted=config["trusted"])
        engine.above = frozenset(config["above"])
        child.router, child.link, child.calls = router, link, calls
        self.life = Life(self, router, calls)
        self.lives.append(self.life)
        log_to(self)
        link.send(CONTROL, config["nonce"] + frame(HELLO, 0, CONTROL, 0, link.peer, router.id, values.encode({
            "pid": os.getpid(), "version": list(sys.version_info[:3]), "magic": MAGIC,
            "executable": sys.executable or "", "uid": os.getuid(), "platform": sys.platform})))
        link.start()
        for hook in config.get("hooks", ()):
            calls.first.work.put(Start(calls, hook))
        self.save()

    def lost(self, link: "Link", reason: str) -> None:
        """The master is gone; this process is not."""
        if self.child.leaving is not None or self.left:
            return
        self.held = False
        self.asking = False
        for record in self.recent:  # whether it has arrived is not known
            self.list(record)
        self.recent.clear()
        for record in self.life.lost(reason):
            self.list(record)
        if self.time_to_live is not None:
            self.dying = self.broker.timer(self.time_to_live, self.end, GRACE)
        self.save()

    def look(self) -> None:
        """End when nobody can come any more: somebody has removed the directory, or the socket in it."""
        here = place.identity(job_place.SOCKET, self.place.fd)
        try:
            found = os.stat(self.directory, follow_symlinks=False)
            mine = os.fstat(self.place.fd)
            gone = here is None or here != self.place.socket or (found.st_dev, found.st_ino) != (mine.st_dev,
                                                                                               mine.st_ino)
        except OSError:
            gone = True
        if gone and not self.held and not any(each.running for each in self.lives):
            return self.end(GRACE)
        if not gone:
            self.clerk.do(self.touch)
        self.broker.timer(LOOK, self.look)
        return None

    def touch(self) -> None:
        """Keep those from removing the directory who remove what is old."""
        for name in os.listdir(self.place.fd):
            os.utime(name, dir_fd=self.place.fd, follow_symlinks=False)
        os.utime(self.directory)

    # -- what calls gave; any thread

    def ended(self, record: "Record") -> None:
        """The call of ``record`` has ended."""
        self.broker.defer_nowait(self.note_end, record)

    def note_end(self, record: "Record") -> None:
        """Keep its answer, or for a while. Loop thread."""
        self.output.catch_up()
        record.settled = True
        waiters, record.waiters = record.waiters, []
        for wake in waiters:
            wake()
        if record.listed:
            self.clerk.do(self.save_result, record)
        else:
            self.recent.append(record)
            while len(self.recent) > RECENT or sum(each.size for each in self.recent) > RECENT_BYTES:
                self.recent.popleft()
            self.confirm(self.life)
        for each in list(self.lives):
            if record in each.running:
                each.running.discard(record)
                each.settle()
        if record.listed:
            self.save()

    def confirm(self, which: Life) -> None:
        """Find out whether answers have arrived, by a PING to who asked, behind them. Loop thread."""
        router = which.router
        link = router.upstream
        if which is not self.life or link.closed or self.asking or not self.recent:
            return
        if link.out or link.pending:  # a PING would overtake them
            self.broker.timer(SOON, self.confirm, which)
            return
        sure = list(self.recent)
        peer = sure[0].peer
        number = next(router.numbers) & 0xffffffff

        def answered() -> None:
            if not which.adrift:
                self.asking = False
                for record in sure:
                    if record.peer == peer and record in self.recent:
                        self.recent.remove(record)
                self.confirm(which)

        self.asking = True
        router.pings[peer, number] = answered
        link.send(CONTROL, frame(PING, 0, CONTROL, number, peer, router.id))

    def list(self, record: "Record") -> None:
        """``record`` is one of those that masters are told of. Loop thread."""
        if record.listed:
            return
        record.listed = True
        self.count += 1
        record.number = self.count
        self.records[record.number] = record
        if record.finished is not None:
            self.clerk.do(self.save_result, record)
        if len(self.records) > LISTED:
            for number, old in list(self.records.items()):
                if old.done:
                    del self.records[number]
                    self.clerk.do(self.forget_result, number)
                    break

    def save_result(self, record: "Record") -> None:
        """Put an answer into its file; it stays in memory where that fails. The clerk."""
        data = record.data
        if data is None or self.left:
            return
        name = job_place.RESULT + str(record.number)
        if self.write_file(name, data):
            record.saved = True
            record.data = None

    def forget_result(self, number: int) -> None:
        """Remove an answer. The clerk."""
        try:
            os.unlink(job_place.RESULT + str(number), dir_fd=self.place.fd)
        except OSError:
            pass  # it was never there

    def describe(self) -> "dict[str, Any]":
        """What the file ``job`` says."""
        return {"pid": os.getpid(), "machine": os.uname()[1], "started": self.started, "name": self.name,
                "python": "%d.%d.%d" % sys.version_info[:3], "time_to_live": self.time_to_live, "held": self.held,
                "calls": [[record.number, record.describe(), record.started, record.finished, record.failed,
                           record.done] for record in list(self.records.values())]}

    def save(self) -> None:
        """Have that written. Loop thread."""
        import json

        self.clerk.do(self.write_file, job_place.FACTS, json.dumps(self.describe()).encode())

    def write_file(self, name: str, data: bytes) -> bool:
        """A file with its whole content, or as it was; whether it could be. The clerk."""
        fd = self.place.fd
        if fd is None:
            return False
        try:
            file = os.open(name + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600,
                           dir_fd=fd)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(file, view):]
            finally:
                os.close(file)
            os.rename(name + ".new", name, src_dir_fd=fd, dst_dir_fd=fd)
            return True
        except OSError:
            try:
                os.unlink(name + ".new", dir_fd=fd)
            except OSError:
                pass  # it was not made
            return False

    # -- words

    def speak(self, number: int, line: bytes) -> None:
        """Tell the present master a line of output. Any thread."""
        router = self.child.router
        if number == 1:
            router.log(values.encode([STDOUT, line]))
        else:
            router.log(values.encode([boot.STDERR, router.id, "stderr", line[:LINE]]))

    def room(self) -> bool:
        """Does the master take more lines, or is there none?"""
        link = self.child.link
        return bool(link.closed or link.out.log_bytes < LOG_LIMIT >> 1)

    def note(self, text: str) -> None:
        """A sentence of our own: to the master, or into the output where there is none."""
        if self.held:
            self.speak(2, b"contextree: " + text.encode("utf-8", "replace"))
        else:
            self.output.keep(b"contextree: " + text.encode("utf-8", "replace") + b"\n")

    # -- the end; loop thread

    def goaway(self, grace: str) -> None:
        """A master says that this is over."""
        self.end(float(grace or 3))

    def end(self, grace: float) -> None:
        """Children first, of all lives; then what runs, within ``grace`` seconds; nothing is kept."""
        child = self.child
        if child.leaving is not None:
            return
        child.leaving = self.broker.timer(grace, self.leave)
        waiting = [each for each in self.lives if not each.engine.ending]

        def ended(which: Life) -> None:
            if which in waiting:
                waiting.remove(which)
                if not waiting:
                    self.stop()

        for each in list(waiting):
            each.engine.end(grace, lambda which=each: ended(which))
        if not waiting:
            self.stop()

    def stop(self) -> None:
        """No more calls."""
        for each in self.lives:
            each.calls.stop()
        self.first.stop()

    def leave(self, tries: int = 200) -> None:
        """Leave, and nothing behind: the clerk cleans up, if the disk lets it."""
        if self.left:
            return
        self.left = True
        for stream in sys.stdout, sys.stderr:
            try:
                stream.flush()
            except Exception:
                pass  # closed, or full: it was theirs
        self.output.finish()
        self.broker.timer(2.0, self.child.flush, tries)
        self.clerk.do(self.clean_up)

    def clean_up(self) -> None:
        """Remove the directory and what is ours in it, then leave. The clerk."""
        job_place.clear(self.place.fd)
        self.place.leave()
        self.broker.defer_nowait(self.child.flush, 200)
