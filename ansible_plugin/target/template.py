"""The program of the template process: it has Ansible's ``module_utils`` imported, and forks once for each module.

It is started by ``warm.Template`` as stock starts a module, ``python3`` with a script on its standard input, which is
``boot.text``. So interpreter, flags, path, locale and standard streams are those that a module finds in stock. It has
one thread, and of this package nothing but this file, ``modules.py`` and ``talk.py``, as code.

Requests come over a socket: two lengths, then a marshalled dict, then an archive or nothing; with the first bytes three
descriptors: standard output and error of the module, and a socket for news of it. That gets ``STARTED`` before the
fork, then ``ENDED`` and the wait status; or ``STALE`` in place of both, where this process is no longer what a new one
would be; and what comes from it is KILL, or its end, which means that nobody wants to know any more. When the requests'
socket ends, so does this process, once the modules have ended that run.
"""

import atexit
import gc
import io
import marshal
import os
import runpy
import select
import signal
import socket
import struct
import sys
import time

from . import modules
from .talk import ENDED, HEADER, KILL, NEWS, STALE, STARTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Dict, List, Optional, Set, Tuple


class Template:
    """The loop."""

    def __init__(self, fd: int) -> None:
        self.control = socket.socket(fileno=fd)
        self.open = True
        self.kept = {}  # type: Dict[str, Optional[modules.Archive]]
        self.prepared = set()  # type: Set[str]  # digests of archives whose code is there
        self.news = {}  # type: Dict[int, socket.socket]  # process -> who wants to know of it
        self.pids = {}  # type: Dict[int, int]  # descriptor of that socket -> process
        self.wake_r, self.wake_w = os.pipe()
        os.set_blocking(self.wake_w, False)
        os.set_blocking(self.wake_r, False)
        self.poll = select.poll()
        self.stamp = ()  # type: Tuple[Any, ...]

    def run(self) -> None:
        """Until nobody can ask any more and all modules have ended. In a module's process it does not return."""
        signal.signal(signal.SIGCHLD, _nothing)
        signal.set_wakeup_fd(self.wake_w)
        self.poll.register(self.control.fileno(), select.POLLIN)
        self.poll.register(self.wake_r, select.POLLIN)
        while self.open or self.news:
            for fd, _ in self.poll.poll():
                if fd == self.wake_r:
                    os.read(self.wake_r, 512)
                    self.reap()
                elif fd == self.control.fileno():
                    self.request()
                elif fd in self.pids:
                    self.told(fd)

    # -- what comes

    def request(self) -> None:
        """Read a request and do it."""
        try:
            header, rights, _, _ = self.control.recvmsg(HEADER.size, socket.CMSG_SPACE(12))
        except ConnectionError:
            header, rights = b"", []
        if not header:
            self.open = False
            self.poll.unregister(self.control.fileno())
            self.control.close()
            return
        sizes = HEADER.unpack(header + self.read(HEADER.size - len(header)))
        task = marshal.loads(self.read(sizes[0]))
        data = self.read(sizes[1])
        fds = struct.unpack("3i", rights[0][2])
        for digest in task["drop"]:
            archive = self.kept.pop(digest)
            self.prepared.discard(digest)
            if archive is not None:
                archive.forget()
        try:
            self.begin(task, data, fds)
        finally:
            for fd in fds[:2]:
                os.close(fd)

    def read(self, size: int) -> bytes:
        """So many bytes of the requests' socket."""
        data = bytearray(size)
        view = memoryview(data)
        while view:
            got = self.control.recv_into(view)
            if not got:
                os._exit(0)  # in the middle of a request: it was killed
            view = view[got:]
        return bytes(data)

    def begin(self, task: "Dict[str, Any]", data: bytes, fds: "Tuple[int, ...]") -> None:
        """Start a module."""
        news = socket.socket(fileno=fds[2])
        if self.stamp and self.stamp != stamp():
            _tell(news, STALE)
            news.close()
            return
        if data and task["digest"] not in self.kept:
            try:
                self.kept[task["digest"]] = modules.Archive(data)
            except Exception:
                self.kept[task["digest"]] = None
        archive = self.kept[task["digest"]]
        if archive is None:  # stock's Python fails as well, and says so at length
            _tell(news, STARTED)
            os.write(fds[1], b"zipfile.BadZipFile: File is not a zip file\n")
            _tell(news, ENDED, 1 << 8)
            news.close()
            return
        self.warm(archive, task["digest"])
        _tell(news, STARTED)
        try:
            pid = os.fork()
        except OSError as error:
            os.write(fds[1], ("sh: Cannot fork: %s\n" % error.strerror).encode())
            _tell(news, ENDED, 2 << 8)  # dash's
            news.close()
            return
        if pid == 0:
            try:
                self.leave()
                news.close()
                become_module(archive, task, fds[0], fds[1])
            finally:
                os._exit(1)
        self.news[pid] = news
        self.pids[news.fileno()] = pid
        self.poll.register(news.fileno(), select.POLLIN)

    def warm(self, archive: "modules.Archive", digest: str) -> None:
        """Import and compile what the module of an archive wants, as far as that was not done."""
        if digest in self.prepared:
            return
        self.prepared.add(digest)
        outputs = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = io.StringIO()  # what is said here would be written by each module, later
        try:
            if not self.stamp:
                modules.warm(archive)
                self.stamp = stamp()
            modules.prepare(archive)
        finally:
            sys.stdout, sys.stderr = outputs
        if hasattr(gc, "freeze"):
            getattr(gc, "freeze")()  # noqa: B009  3.7+; no module's collector looks at it

    def told(self, fd: int) -> None:
        """Who waits for a module has said something, or gone."""
        pid = self.pids[fd]
        try:
            said = self.news[pid].recv(1)
        except ConnectionError:
            said = b""
        if said == KILL:
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                os.kill(pid, signal.SIGKILL)  # it has not got so far yet that the group is its own
        else:
            self.poll.unregister(fd)
            del self.pids[fd]

    def reap(self) -> None:
        """Tell of those that have ended."""
        for pid in list(self.news):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                news = self.news.pop(pid)
                if self.pids.pop(news.fileno(), None):
                    self.poll.unregister(news.fileno())
                _tell(news, ENDED, status)
                news.close()

    # -- in the process of a module

    def leave(self) -> None:
        """Close what is ours."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.control.close()
        for each in self.news.values():
            each.close()
        for fd in [self.wake_r, self.wake_w] + [each.fd for each in self.kept.values()
                                                    if each is not None and each.fd is not None]:
            os.close(fd)


def _nothing(number: int, frame: object) -> None:
    """SIGCHLD: the wakeup descriptor tells."""


def _tell(news: "socket.socket", what: bytes, status: int = 0) -> None:
    try:
        news.sendall(NEWS.pack(what, status))
    except OSError:
        pass  # nobody wants to know


def stamp() -> "Tuple[Any, ...]":
    """What says whether this process has still imported what a new one would: where Python looks for modules and
    libraries, and itself. A module may have installed something."""
    found = []  # type: List[Any]
    for path in sys.path + [sys.executable, "/etc/ld.so.cache"]:
        try:
            status = os.stat(path)
            found.append((status.st_ino, status.st_mtime))
        except (OSError, ValueError):
            found.append(None)
    return tuple(found)


def become_module(archive: "modules.Archive", task: "Dict[str, Any]", out: int, err: int) -> None:
    """In the forked process: be the module. Does not return."""
    os.setsid()
    for fd, number in (out, 1), (err, 2):
        os.dup2(fd, number)
        os.close(fd)
    os._exit(ended(guarded(lambda: played(archive, task))))


def guarded(function: "Any") -> int:
    """The exit status of a Python program that is ``function``."""
    try:
        function()
    except SystemExit as end:
        if end.code is None:
            return 0
        if isinstance(end.code, int):
            return end.code & 255
        try:
            sys.stdout.flush()
        except Exception:
            pass
        try:
            print(end.code, file=sys.stderr)
        except Exception:
            os.write(2, b"\n")  # all that is left of it
        return 1
    except BaseException as error:
        error.__traceback__ = own(error.__traceback__)
        status = guarded(lambda: hooked(error))
        if isinstance(error, KeyboardInterrupt) and sys.version_info >= (3, 8):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        return status
    return 0


def hooked(error: BaseException) -> None:
    """Have told what was raised. Who tells may be of the module, and may exit as it likes or raise something itself."""
    hook, sys.excepthook = sys.excepthook, sys.__excepthook__
    hook(type(error), error, error.__traceback__)
    sys.exit(1)


def own(trace: "Optional[TracebackType]") -> "Optional[TracebackType]":
    """A traceback without the frames of this file before it."""
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def ended(status: int) -> int:
    """What an interpreter does at its end; the exit status."""
    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()  # type: ignore[attr-defined]
    try:
        atexit._run_exitfuncs()
    except BaseException:
        pass  # it has been shown; before 3.10 it is raised as well
    for stream in sys.stdout, sys.stderr:
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except Exception as error:
            status = 120
            if stream is sys.stdout:
                os.write(2, ("Exception ignored in: %r\n%s: %s\n" % (stream, type(error).__name__, error)).encode())
    gc.collect()  # an object in a cycle may have a file to remove
    return status


def played(archive: "modules.Archive", task: "Dict[str, Any]") -> None:
    """``play``; an error that comes out of it is shown without lines of source, as in stock, where the archive has been
    removed then."""
    try:
        play(archive, task)
    except SystemExit:
        raise
    except BaseException:
        archive.modules.clear()
        raise


def play(archive: "modules.Archive", task: "Dict[str, Any]") -> None:
    """Do what the text does that stock gives to Python."""
    atexit._clear()
    environ(task)
    try:
        os.getcwd()
    except OSError:
        try:
            os.chdir(os.path.expanduser("~"))
        except OSError:
            os.chdir("/")
    if task["rlimit"]:
        limit(task["rlimit"])
    for name in "contextree_ansible", __name__, modules.__name__, "contextree_ansible.talk":
        del sys.modules[name]
    main = sys.modules["__main__"] = type(sys)("__main__")
    main.__builtins__ = sys.modules["builtins"]  # type: ignore[attr-defined]
    main.__file__ = "<stdin>"
    sys.argv[:] = [""]
    getattr(sys, "orig_argv", sys.argv)[1:] = []  # 3.10+
    here = os.path.dirname(os.path.realpath("<stdin>"))
    sys.path[:] = [each for each in sys.path if each not in ("", ".", here)]
    modules.enter(archive)
    # by name: the multiplexer reads import statements, and would send all of Ansible's code of the controller along
    if task["profile"] is not None:
        __import__(modules.FIRST[1])
        loader = sys.modules[modules.FIRST[1]]  # type: Any
        loader.run_module(json_params=task["params"], profile=task["profile"], module_fqn=task["fqn"],
                          modlib_path=archive.path, extensions=task["extensions"])
        return
    __import__(modules.FIRST[0])
    sys.modules[modules.FIRST[0]]._ANSIBLE_ARGS = task["params"]  # type: ignore[attr-defined]
    runpy.run_module(mod_name=task["fqn"], init_globals={"_module_fqn": task["fqn"], "_modlib_path": archive.path},
                     run_name="__main__", alter_sys=True)
    print('{"msg": "New-style module did not handle its own exit", "failed": true}')
    sys.exit(1)


def environ(task: "Dict[str, Any]") -> None:
    """Environment, directory and mask of the module, and what depends on them in a process that runs already."""
    for name, value in task["env"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if task["cwd"] is not None:
        try:
            os.chdir(task["cwd"])
        except OSError:
            pass  # as sshd does, when there is no home
    if task["umask"] is not None:
        os.umask(task["umask"])
    time.tzset()
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined]
    if "random" in sys.modules:
        sys.modules["random"].seed()  # type: ignore[attr-defined]  # before 3.7 nobody does


def limit(wanted: int) -> None:
    """The soft limit of open files, as far as it may be."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, wanted)
    if wanted != soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except ValueError:
            pass
