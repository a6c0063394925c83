"""Our end of the template: the process that forked children are forked from (see ``contextree.parent.fork``)."""

import _socket  # the plain one: gevent's would wait for its hub
import os
import pickle
import sys
from collections import deque

from contextree.connect.plan import Plan
from contextree.core import first_stage, process
from contextree.core.logs import Lines
from contextree.core.wire.errors import ConnectError
from contextree.core.wire.frames import NUMBER
from contextree.parent import boot, child_state, ends, spawn
from contextree.parent.popen import popen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Deque, Sequence

    from contextree.parent.boot import Branch
    from contextree.parent.engine import Engine

ROLE = "contextree.parent.fork"
GRACE = 2.0


class Template:
    """One template process of ``engine``, started at once. ``fork`` may be called from any thread but the loop's."""

    def __init__(self, engine: "Engine", path: "list[str]", preload: "Sequence[str]") -> None:
        self.engine = engine
        self.lock = process.allocate_lock()
        self.forks = {}  # type: dict[int, Branch]  # pid -> Branch
        self.branches = {}  # type: dict[int, Branch]  # id -> Branch that waits for its pid
        self.data = b""
        self.skip = len(first_stage.ALIVE)  # the first stage says that it runs; that is no news
        self.dead = False
        self.last = deque(maxlen=20)  # type: Deque[str]  # lines of its stderr
        self.lines = Lines(self.line)
        ours, theirs = _socket.socketpair()
        error_r, error_w = os.pipe()
        argv = [sys.executable, "-c", first_stage.text(), "contextree:template"]
        try:
            child = popen()(argv, stdin=theirs, stdout=theirs, stderr=error_w, start_new_session=True,
                            env=spawn.environment(None))
        except OSError as error:
            process.close_fd(error_r)
            ours.close()
            raise ConnectError("cannot start the template process %s: %s" % (argv[0], error), phase="start") from None
        finally:
            theirs.close()
            process.close_fd(error_w)
        self.errors = process.own(error_r)  # type: int | None
        os.set_blocking(self.errors, False)
        self.fd = process.own(ours.detach())
        self.socket = _socket.socket(fileno=self.fd)
        process.keep.append(self.socket)
        self.handle = boot.reaper(engine).monitor(child.pid, argv[0], spawned=True)
        child.returncode = 0  # the handle reaps it
        config = {"role": ROLE, "path": path, "preload": preload, "bundle": engine.bundle,
                  "records": engine.records(("contextree.parent", ROLE))}
        self.socket.setblocking(True)
        try:
            self.socket.sendall(boot.opening(engine.code_bundle(), config))
        except OSError:
            pass  # it has ended: who wants a fork will hear of it
        engine.broker.call(self.begin)

    def begin(self) -> None:
        """Listen to it. Loop thread."""
        self.engine.broker.watch(self.fd, self.readable)
        self.engine.broker.watch(self.errors, self.read_errors)  # type: ignore[arg-type]  # it is still open

    def fork(self, branch: "Branch", config: "dict[str, Any]", fds: "Sequence[int]") -> None:
        """Have a child forked that gets ``fds`` (link, stderr); ``branch`` is told of its process."""
        data = pickle.dumps({"config": config}, 4)
        view = memoryview(NUMBER.pack(len(data)) + data)
        self.branches[branch.id] = branch
        with self.lock:
            dead = self.dead
            try:
                if not dead:
                    rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
                    sent = self.socket.sendmsg([view], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
                    self.socket.sendall(view[sent:])
            except OSError:
                dead = True
        if dead:
            self.engine.broker.call(self.lost)
            raise self.why(branch)

    def kill(self, pid: int, number: int) -> None:
        """Have a child signalled, by the one who has not reaped it yet."""
        data = pickle.dumps({"kill": pid, "signal": number}, 4)
        with self.lock:
            if not self.dead:
                try:
                    self.socket.sendall(NUMBER.pack(len(data)) + data)
                except OSError:
                    pass  # it has ended: ``lost`` deals with that

    # -- loop thread

    def readable(self) -> None:
        """News of children."""
        try:
            chunk = self.socket.recv(65536, _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            return self.lost()
        self.data += chunk[self.skip:]
        self.skip -= min(self.skip, len(chunk))
        while len(self.data) >= 4 and len(self.data) >= 4 + NUMBER.unpack_from(self.data)[0]:
            size = 4 + NUMBER.unpack_from(self.data)[0]
            self.news(pickle.loads(self.data[4:size]))
            self.data = self.data[size:]

    def news(self, message: "dict[str, Any]") -> None:
        """One message of the template."""
        if "forked" in message:
            pid = message["pid"]
            handle = boot.reaper(self.engine).adopt_remote(pid, "a fork", lambda number: self.kill(pid, number))
            branch = self.forks[pid] = self.branches.pop(message["forked"])
            branch.watch_process(handle)
        elif "exited" in message:
            branch = self.forks.pop(message["exited"])
            handle = branch.process
            if handle is not None:
                handle.report(child_state.from_status(handle.pid, message["status"], handle.command))
        elif "failed" in message:
            branch = self.branches.pop(message["failed"])
            branch.awaited = False
            text = "the template cannot fork: %s" % message["error"]
            branch.fail(ends.make_error(branch, "ConnectError", text, "start"))

    def line(self, line: bytes) -> None:
        """A line that it wrote to stderr."""
        self.last.append(line[:500].decode("utf-8", "replace"))
        self.engine.child_line(self.engine.core.id, "stderr", b"template: " + line)

    def read_errors(self) -> bool:
        """Lines that the template writes itself. False when there are none at present."""
        if self.errors is None:
            return False
        try:
            data = os.read(self.errors, 65536)
        except BlockingIOError:
            return False
        if data:
            self.lines.feed(data)
        else:
            self.close_errors()
        return bool(data)

    def close_errors(self) -> None:
        """Read no more of its stderr; the last, partial line is told. Idempotent. Loop thread."""
        fd, self.errors = self.errors, None
        if fd is not None:
            self.lines.end()
            self.engine.broker.forget(fd)
            process.close(fd)

    def why(self, branch: "Branch") -> ConnectError:
        """The error of a child that was to be forked, with what the template said last."""
        text = "the template process has ended"
        if self.last:
            text += "; its last lines were:\n  " + "\n  ".join(list(self.last)[-10:])
        error = ends.make_error(branch, "ConnectError", text, "start")  # type: Any
        error.output = "\n".join(self.last)
        return error  # type: ignore[no-any-return]  # a ConnectError

    def lost(self) -> None:
        """It has ended: statuses of its children will not come. Those that run go on."""
        with self.lock:
            if self.dead:
                return
            self.dead = True
        self.engine.broker.forget(self.fd)
        process.keep.remove(self.socket)
        process.disown(self.fd)
        self.socket.close()
        while self.read_errors():
            pass
        self.close_errors()
        for branch in list(self.branches.values()):
            branch.awaited = False
            branch.fail(self.why(branch))
        for branch in list(self.forks.values()):
            handle = branch.process
            if handle is not None:
                state = child_state.lost(handle.pid, handle.command,
                                         "the template process that would reap it has ended")
                branch.orphaned(state)
                handle.report(state)

    def abandon(self) -> None:
        """The loop ends before the template does: let go of it, and so it ends. Loop thread, at its end."""
        with self.lock:
            if self.dead:
                return
            self.dead = True
        process.keep.remove(self.socket)
        process.disown(self.fd)
        self.socket.close()
        self.close_errors()

    def end(self, then: "Callable[..., object]") -> None:
        """End it: its socket is closed, and it is killed if that does not do. ``then()`` once it is reaped."""
        self.handle.on_exit(lambda state: then())
        self.lost()
        self.handle.end(grace=GRACE, patience=0)


def launch(engine: "Engine", plan: "Plan", options: "dict[str, Any]", direct: bool = False,
           wait: bool = True) -> "Branch":
    """A forked child, by the template or (``direct``) of the calling thread; its ``Branch``. Not on the loop thread."""
    from contextree.parent import fork

    number = engine.allocate()
    branch = boot.Branch(engine, number, boot.name_for(engine, plan, number), plan, True)
    branch.awaited = True
    if not direct:
        template = engine.get_template()
    ours, theirs = _socket.socketpair()
    fds = [ours.detach(), theirs.detach()]
    fds += os.pipe()
    fds = [process.high(fd) for fd in fds]
    process.own(fds[0])
    process.own(fds[2])
    os.set_blocking(fds[2], False)
    config = dict(boot.configuration(branch, options), title=boot.title(branch.id))

    def begin() -> None:
        branch.begin(fds[0], b"")
        branch.watch_stderr(fds[2])

    try:
        engine.broker.call(begin)
        if direct:
            names = frozenset(vars(sys.modules["__main__"])) if engine.core.upstream is None else ()
            engine.infos[number].facts["main"] = lambda value: value.__qualname__.partition(".")[0] in names
            pid = fork.direct(config, fds[1], fds[3], engine.bundle)
            handle = boot.reaper(engine).monitor(pid, "a fork of %d" % os.getpid(), spawned=True)
            engine.broker.call(branch.watch_process, handle)
        else:
            template.fork(branch, config, (fds[1], fds[3]))
    except BaseException as error:
        failed = error if isinstance(error, ConnectError) else ends.make_error(
            branch, "ConnectError", "cannot fork: %s" % error, "start")
        branch.awaited = False
        engine.broker.call(branch.fail, failed)
        raise failed from error
    finally:
        process.close_fd(fds[1])
        process.close_fd(fds[3])
    if wait:
        boot.wait_up(branch)
    return branch


def fork_plan(name: "str | None" = None) -> Plan:
    """The Plan of a forked child: nothing to run, limits for its phases."""
    return Plan([], "fork.{id}" if name is None else name, "fork", trusted=True)
