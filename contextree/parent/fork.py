"""Forked children: from the template, or from this very process.

The template is a process of its own with one thread: exec'd, so that nothing of this process is in it (no lock that
somebody holds, no secret, no descriptor), with the modules preloaded that children need and its heap frozen. It gets
requests on a unix socket, each with the descriptors of a new child's link and stderr, forks, and reaps: it tells us
pids and statuses. It ends when the socket does.

``direct`` forks the calling thread of this process. The child never returns into the code that called: it becomes a
context, after the order of steps in ``reset``, and leaves by ``os._exit``.
"""

import _signal  # type: ignore[import-not-found]  # signal makes enums of what it returns
import gc
import os
import pickle
import signal
import socket
import sys

from contextree.core import main as life
from contextree.core import process
from contextree.core.importer import Importer
from contextree.core.wire.frames import NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
room = None


def reset() -> None:
    """Make a forked child clean, before anything of contextree runs in it: signals first, then its own session.

    Every disposition is the default, also those of handlers that Python knows nothing of (faulthandler, libev), but for
    the signals that Python itself ignores, and HUP where nohup did."""
    signal.set_wakeup_fd(-1)
    for number in range(1, _signal.NSIG):  # not signal's functions, which make an enum member of each: 0.3 ms in all
        ignored = number in IGNORED or (number == _signal.SIGHUP and _signal.getsignal(number) == _signal.SIG_IGN)
        try:
            _signal.signal(number, _signal.SIG_IGN if ignored else _signal.SIG_DFL)
        except (ValueError, OSError):
            pass  # one that cannot be set
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    try:
        os.setsid()
    except OSError:
        pass  # it leads a group already


def forget_imports() -> None:
    """Let modules be imported anew that another thread was importing at the fork: nobody will ever finish them."""
    locks = sys.modules["_frozen_importlib"]._module_locks
    for name in list(locks):  # there is one for each import under way
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if getattr(spec, "_initializing", False):
            del sys.modules[name]
    locks.clear()
    getattr(sys.modules["_frozen_importlib"], "_blocking_on", {}).clear()


def forget_loops() -> None:
    """Leave event loops of the parent alone: never run, never closed. Closing asyncio's would take its descriptors out
    of the epoll object that both processes share; gevent's is closed, because libev has but one default loop."""
    if "asyncio" in sys.modules:
        sys.modules["asyncio"]._set_running_loop(None)
        events = sys.modules["asyncio.events"]
        for name in ("_event_loop_policy", "__event_loop_policy"):
            if getattr(events, name, None) is not None:
                process.keep.append(getattr(events, name))
                setattr(events, name, None)
    for name, forget in (("trio._core._run", forget_trio), ("sniffio._impl", forget_sniffio),
                         ("gevent._hub_local", forget_gevent), ("cothread.cothread", forget_cothread)):
        if name in sys.modules:
            try:
                forget(sys.modules[name])
            except Exception:  # another version of it, maybe: who uses it here will see, and the others need not care
                import traceback

                os.write(2, traceback.format_exc().encode("utf-8", "replace"))


def forget_trio(module: "Any") -> None:
    """The thread that forked is in no run any more, so that ``trio.run`` works. The run's tasks, and the epoll object
    that its parent goes on with, are kept."""
    run = vars(module.GLOBAL_RUN_CONTEXT)  # of this thread
    process.keep.append(dict(run))
    run.clear()


def forget_sniffio(module: "Any") -> None:
    """No asynchronous library runs here."""
    module.thread_local.name = None
    module.current_async_library_cvar.set(None)


def forget_gevent(local: "Any") -> None:
    """Let the next who needs a hub make a new one. Greenlets of the old one never run here, and never end: one that is
    collected would run its ``finally``, so the hub, whose loop and watchers refer to them, is kept.

    Only the hub of the thread that forked: to destroy a loop that another thread was running is an assertion of libev,
    and nobody runs that one here. libuv's is not destroyed either, which would deafen the parent's by their common
    epoll: the new hub gets a loop that is not the default one."""
    hub = local.get_hub_if_exists()
    if hub is None:
        return
    process.keep.append(hub)
    loop = hub.loop
    local.set_hub(None)
    local.set_loop(None)
    if type(loop).__module__.startswith("gevent.libev"):
        loop.reset_sigchld()  # or libev would take the handler for installed, which ``reset`` has removed
        loop.destroy()  # its epoll descriptor is closed, nothing in it is changed
    else:
        local.set_hub(type(hub)(default=False))


def forget_cothread(module: "Any") -> None:
    """Give cothread a new scheduler, on this thread: the tasks of the old one never run here. In its own module, so
    that whoever has imported its functions gets it as well."""
    process.keep.append((module._scheduler, list(module.Spawn.Cothreads)))
    module.Spawn.Cothreads.clear()
    module._scheduler = module._Scheduler.create()
    for each in module, sys.modules["cothread"]:
        each.__dict__["scheduler_thread_id"] = process.get_ident()
    for fd in (module.Callback.wait, module.Callback.signal):
        process.close_fd(fd)
    module.Callback.__init__()  # with a pipe of its own: the parent hears the other


def title_room() -> "tuple[int, int]":
    """Where this process, and whatever is forked from it, has the words that ``ps`` shows: (first address, behind the
    last).

    Looked up once, and ahead of the fork where the forking process can: reading stat costs 0.1 ms in each child."""
    global room
    if room is None:
        try:
            with open("/proc/self/stat", "rb") as file:
                start, end = file.read().rpartition(b")")[2].split()[45:47]
            room = int(start), int(end)
        except (OSError, ValueError):
            room = 0, 0  # no /proc
    return room


def entitle(title: str) -> None:
    """Let ``ps`` show ``title`` in place of the words that the forking process was started with. Linux; else
    nothing."""
    start, end = title_room()
    if start:
        try:
            fd = os.open("/proc/self/mem", os.O_WRONLY)
            try:
                os.pwrite(fd, title.encode()[:end - start - 1].ljust(end - start, b"\0"), start)
            finally:
                os.close(fd)
        except OSError:
            pass  # it may not be written


def become(config: "dict[str, Any]", fd: int, error_fd: int, bundle: bytes) -> None:
    """In the forked child: take the descriptors and be a context. Does not return."""
    try:
        fd = process.high(fd)
        if error_fd != 2:
            error_fd = process.high(error_fd)
            os.dup2(error_fd, 2)
            process.close_fd(error_fd)
        entitle(config["title"])
        forget_loops()
        life.here.call = None  # the call that forked runs in the parent
        life.Child(config, fd, fd, bundle, True).run()
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode("utf-8", "replace"))
    finally:
        os._exit(91)


def direct(config: "dict[str, Any]", fd: int, error_fd: int, bundle: bytes) -> int:
    """Fork the calling thread; the child becomes a context on ``fd``. Returns the pid, in the parent alone."""
    import warnings

    title_room()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 3.12+ warns of threads; what they hold is dealt with below
        pid = process.unpatched("os", "fork")()  # gevent's would watch the child, and so take its status
    if pid == 0:
        try:
            getattr(gc, "freeze", gc.disable)()  # a collection would touch, and so copy, the whole heap
            if not hasattr(os, "register_at_fork"):
                process.forked()
            forget_imports()
            if life.child is None:
                Importer.main = sys.modules["__main__"]  # as it is in memory: not to be imported again
            reset()
        finally:
            become(config, fd, error_fd, bundle)
    return pid  # type: ignore[no-any-return]


class Server:
    """The template's life: forks, signals and reaps as it is told on ``control``, until that ends."""

    def __init__(self, control: "socket.socket", bundle: bytes) -> None:
        self.control = control
        self.bundle = bundle
        self.pids = set()  # type: set[int]
        self.doomed = set()  # type: set[int]  # those that are being ended: what is left of their groups goes with them
        self.fds = []  # type: list[int]
        self.data = b""
        self.wake_r, self.wake_w = os.pipe()
        for fd in (self.wake_r, self.wake_w):
            os.set_blocking(fd, False)
        signal.signal(signal.SIGCHLD, lambda number, stack: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self.wake_w)

    def serve(self) -> None:
        """Until the socket ends; then the process does."""
        import select

        poller = select.poll()
        poller.register(self.control.fileno(), select.POLLIN)
        poller.register(self.wake_r, select.POLLIN)
        self.tell(ready=os.getpid())
        while True:
            for fd, _ in poller.poll():
                if fd == self.wake_r:
                    os.read(fd, 4096)
                    self.reap()
                elif not self.receive():
                    os._exit(0)

    def receive(self) -> bool:
        """Do what is asked; False at the end of the socket."""
        try:
            data, ancillary, _, _ = self.control.recvmsg(65536, 1024)
        except ConnectionResetError:
            return False  # it was closed before all our news were read
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self.fds += [int.from_bytes(value[at:at + 4], sys.byteorder) for at in range(0, len(value), 4)]
        self.data += data
        while len(self.data) >= 4 and len(self.data) >= 4 + NUMBER.unpack_from(self.data)[0]:
            size = 4 + NUMBER.unpack_from(self.data)[0]
            request = pickle.loads(self.data[4:size])
            self.data = self.data[size:]
            if "config" in request:
                self.fork(request["config"])
            elif request["kill"] in self.pids:
                self.kill(request["kill"], request["signal"])
        return bool(data)

    def fork(self, config: "dict[str, Any]") -> None:
        """One child more, with the next two descriptors that came."""
        fds, self.fds = self.fds[:2], self.fds[2:]
        try:
            pid = os.fork()
        except OSError as error:
            self.tell(failed=config["id"], error=error.strerror)
            pid = None
        if pid == 0:
            try:
                reset()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for fd in [self.wake_r, self.wake_w, self.control.detach()] + self.fds:
                    os.close(fd)
            finally:
                become(config, fds[0], fds[1], self.bundle)
        for fd in fds:
            os.close(fd)
        if pid:
            self.pids.add(pid)
            self.tell(forked=config["id"], pid=pid)

    def kill(self, pid: int, number: int) -> None:
        """Signal a child that has not been reaped, for KILL its group, too: it leads one. Once the child has died of
        that, or (signal 0) otherwise, what is left of the group is killed."""
        self.doomed.add(pid)
        for send in (os.kill, os.killpg) if number == signal.SIGKILL else (os.kill,):
            try:
                send(pid, number)
            except OSError:
                pass  # it has ended, or has made itself another's

    def reap(self) -> None:
        """Tell the statuses of those that have ended: asked for one by one."""
        for pid in list(self.pids):
            if pid in self.doomed and dead(pid):
                self.kill(pid, signal.SIGKILL)  # before it is reaped: until then nobody else has its number
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self.pids.discard(pid)
                self.doomed.discard(pid)
                self.tell(exited=pid, status=status)

    def tell(self, **message: "Any") -> None:
        """Send a message to the process whose template this is."""
        data = pickle.dumps(message, 4)
        try:
            self.control.sendall(NUMBER.pack(len(data)) + data)
        except OSError:
            os._exit(0)


def dead(pid: int) -> bool:
    """Whether a child has ended, and waits to be reaped."""
    return hasattr(os, "waitid") and bool(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))


def main(config: "dict[str, Any]", rfd: int, wfd: int, bundle: bytes) -> None:
    """The life of a template: called by ``core.main.boot`` for the role of this module."""
    control = socket.socket(fileno=rfd)
    control.setblocking(True)
    os.close(wfd)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # that of the thread which started it
    null = process.null()
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    for name in ("logging", "threading", "traceback") + tuple(config.get("preload", ())):
        __import__(name)
    server = Server(control, config.get("bundle") or bundle)
    title_room()
    gc.collect()
    if hasattr(gc, "freeze"):
        gc.freeze()  # novm
    server.serve()
