"""One direct child, from the start of its process to the news of its end.

A ``Branch`` owns the process handle, the link, stderr and the terminal of a child, and moves by the table ``MOVES``:

    start -> connect -> login -> boot -> up -> dying -> dead

Everything that the child needs is written behind the command at once: bundle, configuration, and whatever frames are
sent meanwhile. What comes back before the nonce is login noise; it is logged and kept for the error text. After the
nonce come frames, HELLO first. The phases have a limit each. All of this happens on the loop thread but ``launch``,
which starts processes and waits.

At the end these come together in any order: end of file on the link, the exit status, the last lines of stderr and of
the terminal.
The branch waits a second for those that are missing before it tells the waiters; ``ends`` has the words for it.

Why this file is long: it is the whole life of one object, a table of moves, and the moves are read together.
"""

import os
import pickle
from collections import deque

from contextree.core import process
from contextree.core.first_stage import ALIVE
from contextree.core.logs import LINE, Lines
from contextree.core.mailbox import Mailbox
from contextree.core.streams import Link
from contextree.core.wire import errors
from contextree.core.wire.errors import ConnectTimeout, ContextDied, ContextreeError
from contextree.core.wire.flow import WINDOW_MAX, WINDOW_START, Bucket
from contextree.core.wire.frames import CONTROL, GOAWAY, HELLO, MAX_PAYLOAD, NUMBER, SIZE, frame
from contextree.core.wire.routes import Blocks
from contextree.parent import ends
from contextree.parent.reaper import Reaper
from contextree.parent.reports import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Deque

    from contextree.connect.dialogue import Dialogue
    from contextree.connect.plan import Plan
    from contextree.parent.child import Child
    from contextree.parent.child_state import ChildState
    from contextree.parent.engine import Engine

STDERR = 2  # kind of a log payload; 0 and 1 are in core.logs
NEWS = 1.0  # seconds to wait for exit status and last lines once the link is gone
SOON = 0.5  # seconds from TERM to KILL for what is not up: before NEWS is over, for then nobody may be left to do it
LEFT = 0.5  # seconds for the link to end once the process has
NOISE_KEPT = 4096
GREETING = 1 << 16  # bytes of stderr that are kept of what comes before the context is up
MOVES = {
    "start": ("connect", "dead"), "connect": ("login", "boot", "up", "dying", "dead"),
    "login": ("boot", "up", "dying", "dead"),
    "boot": ("up", "dying", "dead"), "up": ("dying", "dead"), "dying": ("dead",), "dead": (),
}


class ChildLink(Link):
    """A link to a child, with what the police notes about it."""

    def __init__(self, *args: "Any") -> None:
        Link.__init__(self, *args)
        self.blocks = Blocks()
        self.rights = None  # type: Any  # of a client: what it may call, whom it has; see ``listen``
        self.partners = None  # type: Any
        self.strikes = self.noise = self.relayed = self.requests = 0
        self.opens = Bucket(2000, 10000)
        self.logs = Bucket(5000, 50000)
        self.complaints = Bucket(1, 10)

    def _frames(self, data: memoryview) -> None:
        Link._frames(self, data)
        if self.received + self.held > self.window + MAX_PAYLOAD + SIZE:  # one frame may go beyond it
            raise errors.ProtocolError("it sent more than the window of its link")


class Branch:
    """One direct child of ``engine``."""

    if TYPE_CHECKING:
        link: ChildLink  # from ``begin`` on
        process: Any
        timer: Any
        command: Any
        terminal: Any
        slave: Any
        errors: Any
        reason: Any
        error: Any
        quiet: Any

    def __init__(self, engine: "Engine", number: int, name: str, plan: "Plan", trusted: bool) -> None:
        self.engine = engine
        self.broker = engine.broker
        self.id = number
        self.name = name
        self.plan = plan
        self.trusted = trusted
        self.state = "start"
        self.nonce = b"\ncontextree:" + os.urandom(16).hex().encode() + b"\n"
        self.link = self.process = self.timer = self.command = None  # type: ignore[assignment]
        self.terminal = self.slave = self.errors = None  # descriptors
        self.noise = b""
        self.seen_alive = self.detached = self.silent = False
        self.echoes = False  # the nonce came, and no Python before it
        self.kept = False  # is it a job?
        self.awaited = False  # is there a process of which we have not been told yet?
        self.output = deque(maxlen=20)  # type: Deque[str]
        self.greeting = b""  # what came on stderr before the context was up, as it came
        self.lines = Bucket(2000, 20000)
        self.partial = Lines(self.line)
        self.result = Mailbox()
        self.reason = self.error = self.quiet = None
        self.status = None  # type: ChildState | None
        self.started = self.broker.clock()
        self.took = None  # type: float | None
        self.on_dead = []  # type: list[Callable[[], object]]
        self.after = None  # type: Any  # what is to be done then: see steps
        self.token = None  # type: Any  # what the ancestor calls it who asked for it

    # -- start; the loop thread from here on

    def begin(self, fd: int, first: bytes) -> None:
        """Attach to the child's descriptor ``fd`` and write ``first`` ahead of all frames."""
        engine = self.engine
        self.link = link = ChildLink(self.broker, fd, fd, self.first_frame, self.lost, engine.core.id,
                                     window(self.plan))
        link.peer = self.id
        link.blocks.add(self.id, self.id + 1)
        link.scan = self.scan  # type: ignore[assignment]
        link.pending = [first] if first else []
        engine.children[self.id] = self
        engine.add(link, self.id, engine.core.id, self.name, self.trusted, {
            "method": self.plan.method, "via": (self.plan.address or self.plan.method + ":")[:256],
            "same": self.plan.method == "fork" or (self.plan.method == "local" and not self.plan.python)})
        self.move("connect")
        link.start()
        link.flush()

    def watch_process(self, handle: "Child") -> None:
        """Be told of the end of the process."""
        self.awaited = False
        self.process = handle
        handle.on_exit(self.exited)
        if self.state == "dead":
            handle.end(grace=0.5)

    def watch_stderr(self, fd: int) -> None:
        """Log the lines that come on ``fd``."""
        self.errors = fd
        self.broker.watch(fd, self.read_stderr)

    def watch_terminal(self, fd: int, slave: int) -> None:
        """Have the dialogue of the plan on the terminal whose master is ``fd``.

        Its ``slave`` stays open until the child has ended, which shows elsewhere: ssh opens /dev/tty anew for each
        question, and while nobody has the slave open the master reads as if all were over."""
        self.terminal = fd
        self.slave = slave
        self.broker.watch(fd, self.read_terminal)

    def move(self, state: str) -> None:
        """Enter ``state``; its limit starts to run."""
        if state not in MOVES[self.state]:
            raise errors.InternalError("a child in state %s cannot become %s" % (self.state, state))
        self.state = state
        if self.timer:
            self.timer.cancel()
            self.timer = None
        limit = self.plan.phases.get(state)
        if limit and state in ("connect", "login", "boot"):
            self.timer = self.broker.timer(limit, self.timed_out, state, limit)

    # -- what comes before the frames

    def scan(self, view: memoryview) -> "bytes | None":
        """Look for the nonce; what is before it is noise, what follows it is returned."""
        data = self.noise + bytes(view)
        at = data.find(self.nonce)
        if not self.seen_alive and (at >= 0 or ALIVE in data):
            self.seen_alive = True
            self.echoes = at >= 0 and ALIVE not in data[:at]
            if at < 0 and self.state != "boot":  # who has a connection of its own knew before
                self.move("boot")
        elif self.plan.handover and self.plan.dialogue is not None and not self.seen_alive:
            self.converse(self.plan.dialogue, bytes(view))  # busybox's su asks on stdout
        noise = data if at < 0 else data[:at]
        keep = b"" if at >= 0 else noise[-NOISE_KEPT:]
        self.noise = keep
        for line in (noise if at >= 0 else noise[:len(noise) - len(keep)]).split(b"\n"):
            if line.strip() and line + b"\n" != ALIVE:
                self.note(line[:LINE], "stdout")
        return None if at < 0 else data[at + len(self.nonce):]

    def first_frame(self, link: "ChildLink", kind: int, flags: int, cls: int, number: int, dst: int, src: int,
                    view: memoryview, raw: memoryview) -> None:
        """HELLO; then the frames go to the router."""
        core = self.engine.core
        if self.state == "up":
            # None
            return core.receive(link, kind, flags, cls, number, dst, src, view, raw)  # type: ignore[no-any-return]
        try:
            if kind != HELLO or src != self.id:
                raise errors.ProtocolError("the first frame is of kind %d" % kind)
            hello = self.engine.decode(bytes(view))
            if type(hello) is not dict:
                raise errors.ProtocolError("it holds no names")
            facts = clean(hello)
            for key in ("pid", "version", "uid", "platform"):
                if key not in facts:
                    raise errors.ProtocolError("%s is %.80r" % (key, hello.get(key)))
        except ContextreeError as error:
            return link.close("a bad hello: %s" % error)
        self.move("up")
        if self.process is not None:
            self.process.sweep = False  # from now on what it starts may outlive it
        link.receive = self.engine.receive
        self.took = self.broker.clock() - self.started
        facts["started"] = self.took
        info = self.engine.infos[self.id]
        info.facts.update(facts)
        info.state = "up"
        self.engine.announce(info)
        if self.plan.dialogue is not None:
            self.plan.dialogue.finish()
        if self.plan.heartbeat:
            self.engine.heart.watch(self, self.plan.heartbeat)
        self.result.put(None)
        return None

    # -- what the child says outside the link

    def read_stderr(self) -> None:
        """Forward lines of stderr."""
        try:
            data = os.read(self.errors, 16384)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close_stderr()
            return self.settle()
        if self.plan.dialogue is not None and self.state != "up":
            self.plan.dialogue.note(data)
        if self.took is None and len(self.greeting) < GREETING:
            self.greeting += data
        self.partial.feed(data)

    def close_stderr(self) -> None:
        """Read no more of stderr; the last, partial line is told. Idempotent. Loop thread."""
        fd, self.errors = self.errors, None
        if fd is not None:
            self.broker.forget(fd)
            process.close(fd)
            self.partial.end()

    def read_terminal(self) -> None:
        """What the command says on its terminal: prompts, until HELLO; then it is output."""
        from contextree.parent import tty

        try:
            data = tty.read(self.terminal)
        except BlockingIOError:
            return
        if not data:
            self.close_terminal()
            return self.settle()
        dialogue = self.plan.dialogue
        if dialogue is None or dialogue.over or self.state == "up":
            return self.partial.feed(data)
        return self.converse(dialogue, data)

    def converse(self, dialogue: "Dialogue", data: bytes) -> None:
        """Have the dialogue see what the command says, and do what it answers, unless the command has ended."""
        actions = dialogue.feed(data)
        if self.state != "dying":
            self.act(actions)

    def act(self, actions: "list[Any]") -> None:
        """Do what the dialogue says."""
        for action in actions:
            kind = type(action).__name__
            if kind in ("Reply", "Ask") and self.state == "connect":
                self.move("login")
            if kind == "Reply":
                os.write(self.terminal, action.data)
            elif kind == "Ask":
                self.ask(action.secret)
            elif kind == "Failed":
                self.fail(ends.make_error(self, action.error, action.message, "login"))

    def ask(self, secret: str) -> None:
        """Have the source of a secret called, which may take as long as a person does, on a thread of its own."""
        source = self.plan.dialogue.sources[secret]  # type: ignore[union-attr]

        def call() -> None:
            try:
                answer = source()  # type: object
            except BaseException as error:
                answer = error
            try:
                self.broker.defer(self.answered, secret, answer)
            except ContextreeError:
                pass  # all has ended meanwhile

        process.start_thread(call, ())

    def answered(self, secret: str, answer: object) -> None:
        """The source of a secret has returned; or it is too late."""
        if self.terminal is not None and self.state in ("connect", "login", "boot"):
            self.act(self.plan.dialogue.answer(secret, answer))  # type: ignore[union-attr]

    def close_terminal(self) -> None:
        """Hang up."""
        fd, self.terminal = self.terminal, None
        if fd is not None:
            self.broker.forget(fd)
            process.close(fd)
            self.close_slave()

    def close_slave(self) -> None:
        """The terminal ends when all others have closed it too, and not before all of it has been read."""
        fd, self.slave = self.slave, None
        if fd is not None:
            process.close(fd)

    def line(self, line: bytes) -> None:
        """A line that the child wrote to stderr."""
        self.note(line.rstrip(b"\r"), "stderr")

    def note(self, line: bytes, stream: str) -> None:
        """Keep a line for the error text, and log it, at a bounded rate; what comes before HELLO (banners, what ssh
        complains of) as login."""
        if not self.lines.take(self.broker.clock()):
            return
        if self.took is None:
            stream = "login"
        self.output.append(ends.printable(line))
        self.engine.child_line(self.id, stream, line)

    def warn(self) -> None:
        """Log what the plan wants its user to know."""
        for warning in self.plan.warnings:
            self.engine.child_line(self.id, "warning", warning.encode("utf-8", "replace"))

    # -- the end

    def lost(self, link: "ChildLink", reason: str) -> None:
        """The link has closed."""
        self.reason = self.reason or reason
        self.engine.link_lost(link)
        if self.state not in ("dying", "dead"):
            self.early = self.state != "up"
            self.phase = self.state
            self.quiet = self.broker.clock() - link.last_read
            self.move("dying")
            self.timer = self.broker.timer(NEWS, self.settle, True)
        if self.process is not None:
            self.process.hint()
        self.settle()

    def lifeless(self, seconds: float) -> None:
        """Nothing came from it for so long, though it was asked: it is dead to us, and its process is ended."""
        self.silent = True
        self.link.close("no sign of life for %.1f s (heartbeat=%g): its host is down, the network to it cut, or a "
                        "process there or on the way hangs" % (seconds, self.plan.heartbeat or 0))
        if self.process is not None:
            self.process.end(grace=0, patience=0.5)

    def orphaned(self, state: "ChildState") -> None:
        """Who would reap it has ended: it goes on for as long as its link does, and nobody will know its status."""
        self.process = None
        self.awaited = False
        self.status = state
        self.settle()

    def exited(self, state: "ChildState") -> None:
        """The process has ended."""
        if self.process is None:
            return  # orphaned, or detached
        self.status = state
        self.close_slave()
        if self.state not in ("dying", "dead"):
            # descriptors that a grandchild inherited may keep the link open for ever
            self.broker.timer(LEFT, self.link.close, "the process ended")
        self.settle()

    def settle(self, late: bool = False) -> None:
        """Tell everybody, once all the news are in (or it is too late to wait for them)."""
        ended = self.status is not None or (self.process is None and not self.awaited)
        if self.state != "dying" or not (late or (ended and self.errors is None and self.terminal is None)):
            return
        self.move("dead")
        self.close_stderr()
        self.close_terminal()
        if self.status is None and self.process is not None:
            self.process.end(grace=0.5)
        engine = self.engine
        engine.children.pop(self.id, None)
        text = ends.explain(self)
        if self.early and self.error is None:
            self.error = ends.early_error(self, text)
        error = ContextDied("%s ended: %s" % (self.name, text), context=self.name, reason=text, status=self.status,
                            output="\n".join(self.output))
        numbers = [number for number, info in engine.infos.items() if info.link is self.link]
        numbers.sort(key=lambda number: number != self.id)
        if numbers:
            engine.remove(numbers, text, self.error, self.status, error.output)
        self.result.close(self.error or error)
        if self.after is not None:
            self.after.run()
        for function in self.on_dead:
            function()

    def abandon(self, error: "ContextreeError") -> None:
        """The loop ends before the child does: let go of everything and tell who waits. Loop thread, at its end."""
        self.state = "dead"
        self.link.on_lost = lambda link, reason: None
        self.link.close(str(error))
        self.close_stderr()
        self.close_terminal()
        self.result.close(error)

    def timed_out(self, phase: str, limit: float) -> None:
        """A phase took too long."""
        asked = self.plan.dialogue.pending if self.plan.dialogue is not None else ""
        self.fail(ends.make_error(self, "ConnectTimeout", "it took more than %s s%s" % (
            limit, "; its terminal asks: " + asked if asked else ""), phase))

    def fail(self, error: "ContextreeError") -> None:
        """Give up on a child that is not up."""
        self.error = self.error or error
        self.close_terminal()  # a command of root's, which we may not signal, ends when its terminal hangs up
        if self.process is not None:
            self.process.end(grace=0, patience=SOON)
        self.link.close(str(error))

    def shutdown(self, grace: float, patience: float = 2.0) -> None:
        """End it: GOAWAY, then hang up, TERM, KILL; what is left of its group goes with it."""
        self.reason = self.reason or "it was shut down"
        link = self.link
        if self.state == "up":
            link.send(CONTROL, frame(GOAWAY, 0, CONTROL, 0, self.id, self.engine.core.id, b"%f" % max(grace, 0.1)))
        else:
            self.error = self.error or errors.CallCancelled("starting %s was cancelled: it was shut down" % self.name)
            link.close("it was shut down")
            # it has nothing to finish, and what runs ahead of it does not hear the link
            grace, patience = 0.0, min(patience, SOON)
        if self.process is not None:
            self.process.take_along()
            self.process.end((lambda: None,), self.hang_up, grace, patience)
        else:
            self.broker.timer(grace + patience, link.close, "it was shut down")

    def release(self) -> None:
        """Let go of a detached child: its link is closed and it runs on. Loop thread."""
        if self.kept and self.state == "up":
            from contextree.parent import jobs

            return jobs.part(self)
        after, self.after = self.after, None
        if after is not None:
            after.leave()
        handle, self.process = self.process, None
        self.reason = self.reason or "it was detached"
        self.close_stderr()
        self.link.close(self.reason)
        if handle is not None:
            handle.release()
        return None

    def hang_up(self) -> None:
        """Close what keeps it alive."""
        self.close_terminal()
        if self.link.rfd is not None:
            self.link.close("it did not end in time")


def name_for(engine: "Engine", plan: "Plan", number: int) -> str:
    """The full name of a new child: its parent's, and its own last part."""
    last = plan.name if "{id}" not in plan.name else plan.name.replace("{id}", str(number))
    return last if engine.core.upstream is None else "%s.%s" % (engine.core.name, last)


def title(number: int) -> str:
    """The word by which ``ps`` shows a child: its id, and the pid here of who started it. Nothing else: everybody on
    the machine can read it."""
    return "contextree:%d@%d" % (number, os.getpid())


def window(plan: "Plan") -> int:
    """The link window to start with: local methods have nothing below us that buffers but the kernel."""
    return WINDOW_MAX if plan.method in ("fork", "local") else WINDOW_START


def configuration(branch: "Branch", options: "dict[str, Any]") -> "dict[str, Any]":
    """What a child is told."""
    core = branch.engine.core
    return dict({"id": branch.id, "name": branch.name, "parent": core.id, "nonce": branch.nonce,
                 "trusted": branch.trusted and branch.engine.trusted, "max_message": core.max_message,
                 "window": window(branch.plan), "level": 0, "ids": []}, **options)


def opening(bundle: bytes, config: "dict[str, Any]") -> bytes:
    """The bytes behind the first stage."""
    data = pickle.dumps(config, 4)
    return NUMBER.pack(len(bundle)) + bundle + NUMBER.pack(len(data)) + data


def wait_up(branch: "Branch") -> None:
    """Wait until ``branch`` is up; raises its error otherwise. Interrupted: the child is ended."""
    try:
        branch.result.get()
    except BaseException as error:
        if not isinstance(error, ContextreeError):
            branch.broker.defer(branch.fail, errors.CallCancelled("starting %s was cancelled" % branch.name))
            raise
        raise error from None


def reaper(engine: "Engine") -> Reaper:
    """The reaper of ``engine``, made when the first child is."""
    if engine.reaper is None:
        engine.reaper = Reaper(engine.broker)
        engine.reaper.allow_blocking = engine.allow_blocking
    return engine.reaper  # type: ignore[no-any-return]
