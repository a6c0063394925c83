"""A program that runs in a context for somebody elsewhere: the far side of ``Context.run`` and ``Context.popen``.

Threads: ``start`` runs as a call, on a service thread, because starting a program can block. From then on everything is
the loop's: pipes that do not block, the news of the end from the reaper, a few timers. So a hundred programs need no
thread, and the main thread of the context is nobody's.

The channel of that call becomes the program's own. Every message is a letter and what belongs to it:

    from here    S pid (4)       it was started (an error record instead: it was not, and nothing more comes)
                 O, E data       stdout, stderr          o, e    end of file there
                 C count (4)     so many input messages were written     B    nobody reads its stdin any more
                 T               the deadline is over: it is being ended
                 X status (4)    how it ended, as subprocess has it      L text    how it ended is lost
                 D, the last one all is over: every pipe closed, and nothing left in the group where it was ended
    to here, not before S:
                 I data          for stdin, at most ``WRITES`` messages not yet counted back      i    end of file
                 C letter, count (1 + 4)   so many bytes of that output were taken
                 c letter        nobody wants that output any more: its pipe is closed
                 K signal, group (1 + 1)         W rows, columns (2 + 2)         E grace (double): end it

Each output has a budget of bytes that its reader has not taken, so one that is not read holds up the program at that
pipe, as a full pipe does, and nobody else.

The program leads a session and so a process group of its own, and what ends is the group: TERM (and CONT, for what is
stopped), KILL after the grace, until nobody is left in it. That happens when somebody asks for it, at the deadline,
when the channel ends (the caller, or the link to it, is gone) and when this context ends. What left the group by setsid
is not seen. The group is signalled after the leader was reaped only while the leader's number is free: the kernel
gives it to no new process while the group has members.
"""

import os
import signal
import struct
import subprocess
import sys

from contextree.core import calls as core_calls
from contextree.core import process
from contextree.core.wire.errors import Closed, ContextreeError, UnsupportedPlatform
from contextree.core.wire.frames import BROKEN
from contextree.parent import boot
from contextree.parent.census import census
from contextree.parent.engine import engine_of
from contextree.parent.popen import popen
from contextree.parent.pumps import COUNT, Input, Output
from contextree.parent.watched import FINAL
from contextree.parent.watchman import Watchman

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List

    from contextree.core.broker import Timer
    from contextree.core.router import Channel
    from contextree.parent.child_state import ChildState
    from contextree.parent.engine import Engine


WRITE = 65536  # most bytes of one input message
WRITES = 32  # input messages on their way to the program
LAST = 1.0  # seconds that the dead have to go away
STATUS, WINDOW = struct.Struct("!i"), struct.Struct("!HH")
GRACE, TAKEN = struct.Struct("!d"), struct.Struct("!cI")
NEWER = {"user": (3, 9), "group": (3, 9), "extra_groups": (3, 9), "umask": (3, 9)}  # options of Popen that came later
starting = process.allocate_lock()  # one watchman and one reaper for all; never the loop's


def _forked() -> None:
    global starting
    starting = process.allocate_lock()  # another thread of the parent may have held it


process.after_fork.append(_forked)


def start(spec: "Dict[str, Any]") -> None:
    """Start a program as ``spec`` says (see ``command.specify``); the call's channel is its own from now on.

    Raises OSError where it cannot be started, UnsupportedPlatform where this Python is too old for an option."""
    call = core_calls.here.call
    job = Job(engine_of(core_calls.here.router), call.channel, spec)
    try:
        job.launch()
    except BaseException:
        job.engine.broker.defer_nowait(job.give_up)
        raise
    call.cancelled = True  # it has no answer: what follows is said by the job
    try:
        job.engine.broker.call(job.begin)
    except BaseException:  # the loop has ended
        job.signal_group(signal.SIGKILL)
        raise


class Job:
    """One program, from its start until nothing of it is left. ``engine.jobs`` has those that live."""

    def __init__(self, engine: "Engine", channel: "Channel", spec: "Dict[str, Any]") -> None:
        self.engine = engine
        self.broker = engine.broker
        self.channel = channel
        self.spec = spec
        self.outputs = {}  # type: Dict[bytes, Output]
        self.input = None  # type: Any
        self.terminal = None  # type: int | None  # its master, which is also the output's
        self.handle = None  # type: Any  # of the process, once there is one
        self.state = None  # type: ChildState | None  # how it ended
        self.silent = False  # nobody hears us
        self.ending = self.over = False
        self.began = 0.0
        self.timers = []  # type: List[Timer]
        self.on_over = []  # type: List[Callable[[], object]]

    # -- the start, on a service thread

    def launch(self) -> None:
        """Start the program. After an error nothing is left open."""
        spec = self.spec
        options = spec["options"]
        self.engine.jobs.add(self)  # from now on the end of this context waits for us; else it has begun already
        if self.engine.ending:
            raise Closed("%s is about to end: no program is started any more" % self.engine.core.name)
        version = sys.version_info[:2]
        for name in options:
            if version < NEWER.get(name, version):
                raise UnsupportedPlatform("%s= needs Python %d.%d, and %s has %d.%d"
                                          % ((name,) + NEWER[name] + (self.engine.core.name,) + version))
        env = dict(os.environ) if spec["env"] is None else dict(spec["env"])
        for name, value in (spec["add_env"] or {}).items():
            name = os.fsdecode(name)
            if value is None:
                env.pop(name, None)
            else:
                env[name] = value
        with starting:  # before there is a program: this process may be killed at any moment
            reaper = boot.reaper(self.engine)
            if self.engine.watchman is None:
                self.engine.watchman = Watchman(reaper)
        theirs = []  # type: List[int]
        try:
            args = self.open_terminal(env, theirs) if spec["pty"] else spec["args"]
            files = {name: self.open(name, theirs) for name in ("stdin", "stdout", "stderr")}
            child = popen()(args, env=env, start_new_session=True, **dict(options, **files))
        except BaseException:
            self.close_all()
            raise
        finally:
            for fd in theirs:
                process.close(fd)
        self.engine.watchman.begun(child.pid)
        self.handle = reaper.monitor(child.pid, str(child.args)[:200], spawned=True)
        child.returncode = 0  # the handle reaps it; Popen must not try

    def open(self, name: str, theirs: "List[int]") -> "int | None":
        """What Popen is to get as ``name``; our end of a pipe is kept, theirs noted."""
        kind = self.spec[name]
        if self.spec["pty"]:
            return theirs[0]
        if kind != "pipe":
            return {"null": subprocess.DEVNULL, "stdout": subprocess.STDOUT, "inherit": None}[kind]
        ends = [process.own(fd) for fd in os.pipe()]
        if name == "stdin":
            ends.reverse()
        theirs.append(ends[1])
        os.set_blocking(ends[0], False)
        if name == "stdin":
            self.input = Input(self, ends[0], False)
        else:
            letter = b"O" if name == "stdout" else b"E"
            self.outputs[letter] = Output(self, ends[0], letter)
        return ends[1]

    def open_terminal(self, env: "Dict[str, Any]", theirs: "List[int]") -> "List[str]":
        """A terminal for the program, and the command that takes it as its controlling one."""
        from contextree.parent import tty

        spec = self.spec
        args = spec["args"]
        options = dict(spec["options"])
        if options.pop("shell", False):
            args = ["/bin/sh", "-c"] + ([args] if isinstance(args, (str, bytes)) else list(args))
        elif isinstance(args, (str, bytes)):
            args = [args]
        spec["options"].pop("shell", None)
        tty.find(args[0], env, options.get("cwd"))
        env.setdefault("TERM", "dumb")
        pty = tty.open_pty(silent=False)
        theirs.append(process.own(pty.slave))
        self.terminal = master = process.own(pty.detach_master())
        tty.resize(master, *spec["pty"])
        os.set_blocking(master, False)
        self.outputs[b"O"] = Output(self, master, b"O")
        self.input = Input(self, process.own(os.dup(master)), True)  # a number of its own for the poller
        return tty.wrap([os.fsdecode(word) for word in args], pty.path)

    # -- the loop thread from here on

    def begin(self) -> None:
        """It runs: watch it, and listen."""
        spec, channel = self.spec, self.channel
        self.began = self.broker.clock()
        channel.on_end = self.lost
        channel.on_message = self.message
        self.send(b"S" + COUNT.pack(self.handle.pid))
        for output in self.outputs.values():
            output.watch()
        self.handle.on_exit(self.exited)
        if spec["input"]:
            self.input.add(memoryview(spec["input"]))
        if self.input is not None and (spec["input"] is not None or spec["stdin"] != "pipe"):
            self.input.add(None)
        if spec["timeout"] is not None:
            self.timers.append(self.broker.timer(spec["timeout"], self.expired))
        if channel.ended:
            self.lost(channel, channel.ended)
        elif self.engine.ending:
            self.end_with_context(0, lambda: None)

    def send(self, data: bytes) -> None:
        """Say something to the caller, if it is still there."""
        if not self.silent:
            try:
                self.channel.send(data, data == b"D")
            except ContextreeError:
                self.silent = True  # ``lost`` comes, or has been

    def room(self) -> None:
        """The channel has sent what it had."""
        self.channel.on_room = None
        for output in list(self.outputs.values()):
            if output.paused and output.budget > 0:
                output.watch()

    def message(self, channel: "Channel", data: "Any", fin: bool, cost: int) -> None:
        """The caller says something."""
        if not fin:
            channel.taken(cost)
            try:
                self.obey(bytes(data[:1]), memoryview(data)[1:])
            except (LookupError, struct.error, OSError) as error:
                channel.cancel(BROKEN, "a message to a program that is none: %s" % error)

    def obey(self, letter: bytes, rest: memoryview) -> None:
        """Do what a message says."""
        if letter == b"I":
            if self.input is None:
                self.send(b"C" + COUNT.pack(1))
            else:
                self.input.add(rest)
        elif letter == b"i":
            if self.input is not None:
                self.input.add(None)
        elif letter == b"C":
            name, count = TAKEN.unpack(rest)
            output = self.outputs[name]
            output.budget += count
            if output.paused and output.budget > 0:
                output.watch()
        elif letter == b"c":
            self.unwanted(self.outputs[bytes(rest)])
        elif letter == b"K":
            self.kill(rest[0], bool(rest[1]))
        elif letter == b"W" and self.terminal is not None and self.outputs[b"O"].fd >= 0:
            from contextree.parent import tty

            tty.resize(self.terminal, *WINDOW.unpack(rest))
        elif letter == b"E":
            self.end(GRACE.unpack(rest)[0])

    def unwanted(self, output: Output) -> None:
        """Nobody reads it any more: a pipe is closed, so that the program is told; of a terminal it is thrown away."""
        output.unwanted = True
        if self.terminal is None:
            output.close()
        elif output.paused:
            output.watch()

    # -- the end

    def exited(self, state: "ChildState") -> None:
        """The program has ended; those that it started may not have."""
        self.state = state
        if state.returncode is None:
            self.send(b"L" + state.reason.encode("utf-8", "replace"))
        else:
            self.send(b"X" + STATUS.pack(state.returncode))
        if self.spec["until"] == "exit":
            for output in list(self.outputs.values()):
                output.drain()
        self.settle()

    def expired(self) -> None:
        """The deadline is over."""
        self.send(b"T")
        self.end(self.spec["grace"])

    def lost(self, channel: "Channel", error: BaseException) -> None:
        """The caller is gone, or gave it up."""
        self.silent = True
        self.end(self.spec["grace"])
        for output in list(self.outputs.values()):
            self.unwanted(output)
        if self.input is not None:
            self.input.close()

    def end_with_context(self, grace: float, then: "Callable[[], object]") -> None:
        """This context ends: so does the program, within ``grace`` seconds; then call ``then``."""
        self.silent = True  # who waits for it shall hear that the context has ended
        self.on_over.append(then)
        if self.handle is not None:  # else ``begin`` is about to come, or ``give_up``
            self.end(grace)

    def give_up(self) -> None:
        """It could not be started."""
        self.over = True
        self.engine.jobs.discard(self)
        for function in self.on_over:
            function()

    def end(self, grace: float) -> None:
        """TERM to its group, KILL after ``grace`` seconds; a second call can only make it sooner. Returns at once."""
        if self.over:
            return
        if grace > 0:
            if not self.ending:
                self.signal_group(signal.SIGTERM)
                self.signal_group(signal.SIGCONT)  # TERM stays pending in who is stopped
            self.timers.append(self.broker.timer(grace, self.end, 0))
        else:
            self.signal_group(signal.SIGKILL)
            self.timers.append(self.broker.timer(LAST, self.finish))
        if not self.ending:
            self.ending = True
            self.look(0.005)

    def look(self, delay: float) -> None:
        """Is anybody left of the group? Ask again by and by."""
        if self.over:
            return
        if self.state is not None and not self.left():
            for output in list(self.outputs.values()):
                output.drain()
            return self.settle()
        self.timers.append(self.broker.timer(delay, self.look, min(2 * delay, 0.1)))

    def kill(self, number: int, group: bool) -> None:
        """Signal the program, or all of its group."""
        if group:
            self.signal_group(number)
        else:
            try:
                self.handle.kill(number)
            except (ContextreeError, OSError):
                pass  # it has ended, or is another user's by now: as with a signal that comes a moment later

    def signal_group(self, number: int) -> bool:
        """Signal everybody in the group; False when there is nobody (any more)."""
        pid = self.handle.pid
        try:
            if self.handle.phase in FINAL:
                try:
                    os.kill(pid, 0)
                    return False  # another process has the number by now, so the group is empty
                except ProcessLookupError:
                    pass
            os.killpg(pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # there is somebody, of another user by now
        return True

    def left(self) -> bool:
        """Does anybody of the group live, the program itself having ended? The dead whom nobody has reaped count for
        the kernel, but not here: whoever inherits orphans may be slow."""
        return self.signal_group(0) and self.handle.pid in census(self.broker.clock, self.began)

    def settle(self) -> None:
        """Is it over? When the program has ended, all that it said has been read and, where it was to be ended, nobody
        is left of its group."""
        if self.over or self.state is None or any(output.fd >= 0 for output in self.outputs.values()):
            return
        if not self.ending or not self.left():
            self.finish()

    def finish(self) -> None:
        """It is over: close everything and say so. Idempotent."""
        if self.over:
            return
        self.over = True
        for timer in self.timers:
            timer.cancel()
        self.close_all()
        self.engine.jobs.discard(self)
        self.engine.watchman.over(self.handle.pid)
        self.channel.on_room = None
        self.send(b"D")
        for function in self.on_over:
            function()

    def close_all(self) -> None:
        """Close our ends of everything."""
        watched = self.handle is not None  # else the loop has never seen them
        for one in list(self.outputs.values()) + [self.input] * (self.input is not None):
            if watched:
                one.close()
            else:
                process.close(one.fd)
                one.fd = -1
