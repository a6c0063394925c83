"""Our end of the template: the process that forked children are forked from (see ``contextree.parent.fork``)."""

import os
import pickle
import socket
import subprocess
import sys

from contextree.connect.plan import Plan
from contextree.core import first_stage, process
from contextree.core.first_stage import ALIVE
from contextree.core.logs import Lines
from contextree.core.wire.errors import ConnectError
from contextree.core.wire.frames import NUMBER
from contextree.parent import boot, child_state

ROLE = "contextree.parent.fork"
GRACE = 2.0


class Template:
    """One template process of ``engine``, started at once. ``fork`` may be called from any thread but the loop's."""

    def __init__(self, engine, path, preload) -> None:
        self.engine = engine
        self.lock = process.allocate_lock()
        self.handles = {}  # pid -> handle
        self.branches = {}  # id -> Branch that waits for its pid
        self.data = b""
        self.dead = False
        self.lines = Lines(lambda line: engine.child_line(engine.core.id, "stderr", b"template: " + line))
        ours, theirs = socket.socketpair()
        error_r, error_w = os.pipe()
        argv = [sys.executable, "-c", first_stage.text(), "contextree:template"]
        with theirs:
            child = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=error_w, start_new_session=True)
        os.close(error_w)
        self.errors = process.own(error_r)
        os.set_blocking(self.errors, False)
        self.fd = process.own(ours.detach())
        self.socket = socket.socket(fileno=self.fd)
        process.keep.append(self.socket)
        self.handle = boot.reaper(engine).monitor(child.pid, argv[0], spawned=True)
        child.returncode = 0  # the handle reaps it
        config = {"role": ROLE, "path": path, "preload": preload, "bundle": engine.bundle,
                  "records": engine.records(("contextree.parent", ROLE))}
        self.socket.setblocking(True)
        self.socket.sendall(boot.opening(engine.code_bundle(), config))
        engine.broker.call(self.begin)

    def begin(self) -> None:
        """Listen to it. Loop thread."""
        self.engine.broker.watch(self.fd, self.readable)
        self.engine.broker.watch(self.errors, self.read_errors)

    def fork(self, branch, config, fds) -> None:
        """Have a child forked that gets ``fds`` (link, stderr); ``branch`` is told of its process."""
        data = pickle.dumps({"config": config}, 4)
        data = memoryview(NUMBER.pack(len(data)) + data)
        self.branches[branch.id] = branch
        with self.lock:
            if self.dead:
                raise ConnectError("%s: the template process has ended" % branch.name, phase="start")
            try:
                rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
                sent = self.socket.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
                self.socket.sendall(data[sent:])
            except OSError as error:
                raise ConnectError("%s: the template process does not answer: %s" % (branch.name, error), phase="start")

    def kill(self, pid, number) -> None:
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
            chunk = self.socket.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            return self.lost()
        self.data += chunk
        if self.data.startswith(ALIVE):  # the first stage says so
            self.data = self.data[len(ALIVE):]
        while len(self.data) >= 4 and len(self.data) >= 4 + NUMBER.unpack_from(self.data)[0]:
            size = 4 + NUMBER.unpack_from(self.data)[0]
            self.news(pickle.loads(self.data[4:size]))
            self.data = self.data[size:]

    def news(self, message) -> None:
        """One message of the template."""
        if "forked" in message:
            pid = message["pid"]
            handle = boot.reaper(self.engine).adopt_remote(pid, "a fork", lambda number: self.kill(pid, number))
            self.handles[pid] = handle
            self.branches.pop(message["forked"]).watch_process(handle)
        elif "exited" in message:
            handle = self.handles.pop(message["exited"], None)
            if handle is not None:
                handle.report(child_state.from_status(handle.pid, message["status"], handle.command))
        elif "failed" in message:
            branch = self.branches.pop(message["failed"])
            branch.fail(ConnectError("%s: the template cannot fork: %s" % (branch.name, message["error"]), phase="start"))

    def read_errors(self) -> None:
        """Lines that the template writes itself."""
        try:
            data = os.read(self.errors, 65536)
        except BlockingIOError:
            return
        if data:
            return self.lines.feed(data)
        self.lines.end()
        self.engine.broker.forget(self.errors)
        process.close(self.errors)

    def lost(self) -> None:
        """It has ended: statuses of its children will not come."""
        with self.lock:
            if self.dead:
                return
            self.dead = True
        self.engine.broker.forget(self.fd)
        process.keep.remove(self.socket)
        process.disown(self.fd)
        self.socket.close()
        if self.engine.template is self:
            self.engine.template = None
        for branch in list(self.branches.values()):
            branch.fail(ConnectError("%s: the template process ended" % branch.name, phase="start"))
        for handle in list(self.handles.values()):
            handle.report(child_state.lost(handle.pid, handle.command, "the template process that would reap it has ended"))

    def end(self, then) -> None:
        """End it: its socket is closed, and it is killed if that does not do. ``then()`` is called when it is reaped."""
        self.lost()
        self.handle.on_exit(lambda state: then())
        self.handle.end(grace=GRACE, patience=0)
        if self.errors is not None:
            self.engine.broker.forget(self.errors)
            process.close(self.errors)


def launch(engine, plan, options, direct=False, wait=True):
    """A forked child, by the template or (``direct``) of the calling thread; its ``Branch``. Not on the loop thread."""
    from contextree.parent import fork

    number = engine.allocate()
    branch = boot.Branch(engine, number, boot.name_for(engine, plan, number), plan, True)
    if not direct:
        template = engine.get_template()
    ours, theirs = socket.socketpair()
    fds = [ours.detach(), theirs.detach()]
    fds += os.pipe()
    fds = [process.high(fd) for fd in fds]
    process.own(fds[0])
    process.own(fds[2])
    os.set_blocking(fds[2], False)
    config = boot.configuration(branch, options)
    try:
        engine.broker.call(branch.begin, fds[0], b"")
        engine.broker.call(branch.watch_stderr, fds[2])
        if direct:
            names = frozenset(vars(sys.modules["__main__"])) if engine.core.upstream is None else ()
            engine.infos[number].facts["main"] = lambda value: value.__qualname__.partition(".")[0] in names
            pid = fork.direct(config, fds[1], fds[3], engine.bundle)
            handle = boot.reaper(engine).monitor(pid, "a fork of %d" % os.getpid(), spawned=True)
            engine.broker.call(branch.watch_process, handle)
        else:
            template.fork(branch, config, (fds[1], fds[3]))
    except BaseException as error:
        text = "%s: cannot fork: %s" % (branch.name, error)
        failed = error if isinstance(error, ConnectError) else ConnectError(text, phase="start")
        engine.broker.call(branch.fail, failed)
        raise failed from error
    finally:
        os.close(fds[1])
        os.close(fds[3])
    if wait:
        boot.wait_up(branch)
    return branch


def fork_plan(name=None) -> Plan:
    """The Plan of a forked child: nothing to run, limits for its phases."""
    return Plan([], name or "fork.{id}", "fork", trusted=True)
