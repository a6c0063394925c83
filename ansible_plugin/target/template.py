"""The program of the template process: it has Ansible's ``module_utils`` imported, and forks once for each module.

It is started by ``warm.Template`` as stock starts a module, ``python3`` with a script on its standard input, which is
``boot.text``. So interpreter, flags, path, locale and standard streams are those that a module finds in stock. It has
one thread, and of this package nothing but this file and those that it imports, as code.

Requests come over a socket: two lengths, then a marshalled dict, then an archive or nothing; with the first bytes three
descriptors: standard output and error of the module, and a socket for news of it. That gets ``STARTED`` before the
fork, then ``ENDED`` and the wait status; or ``STALE`` in place of both, where this process is no longer what a new one
would be; and what comes from it is KILL, or its end, which means that nobody wants to know any more. When the requests'
socket ends, so does this process, once the modules have ended that run.

A module whose task says ``again`` gets, when it comes for the second time, a process of its own that runs it for who
has the other end of a socket (``again.py``), which is sent back. A request of {"kill": its number} has it killed.

When nothing is to be done, one process is forked ahead: the *spare* (docs/decisions/0035). The next module runs in it
if its archive was there before; it waits for that on a socket, has nothing else open, and ends with the template.
"""

import gc
import io
import marshal
import os
import select
import signal
import socket
import struct
import sys

from . import again, modules, pages
from .player import become_module, practise, touch
from .talk import END, ENDED, HEADER, KILL, PID, STALE, STARTED, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional, Set, Tuple


IDLE = 2  # milliseconds without anything to do, after which a spare is forked
HELPERS = 10  # of those processes in the life of a template: should they end each time, they are of no use
SHORT = 1 << 16  # bytes of a task that a spare is given: its socket takes so many at once


class Spare:
    """A process that waits for a module."""

    def __init__(self, pid: int, control: "socket.socket", archives: "Set[str]") -> None:
        self.pid = pid
        self.control = control
        self.archives = archives  # digests of those that it has
        self.wrong = False  # Has one been wanted again that it has not? Others may never be.


class Template:
    """The loop."""

    def __init__(self, fd: int) -> None:
        self.control = socket.socket(fileno=fd)
        self.open = True
        self.kept = {}  # type: Dict[str, Any]  # digest -> modules.Archive; None for one that is damaged
        self.prepared = set()  # type: Set[str]  # digests of archives whose code is there
        self.news = {}  # type: Dict[int, socket.socket]  # process -> who wants to know of it
        self.pids = {}  # type: Dict[int, int]  # descriptor of that socket -> process
        self.wake_r, self.wake_w = os.pipe()
        os.set_blocking(self.wake_w, False)
        os.set_blocking(self.wake_r, False)
        self.poll = select.poll()
        self.stamp = ()  # type: Tuple[Any, ...]
        self.spare = None  # type: Optional[Spare]
        self.due = False  # Is it time for a spare?
        self.pages = pages.Pages()
        self.helper = 0  # the process that runs a module again and again
        self.helpers = 0  # so many have been made
        self.helped = None  # type: Optional[Tuple[str, str]]  # digest and name of that module
        self.ends_r, self.ends_w = os.pipe()
        os.set_blocking(self.ends_r, False)
        look = os.fstat(self.ends_w)
        self.place = os.getpid(), "/proc/%d/fd/%d" % (os.getpid(), self.ends_w), (look.st_dev, look.st_ino)
        self.ending = set()  # type: Set[int]  # processes that have told with what status they end

    def run(self) -> None:
        """Until nobody can ask any more and all modules have ended. In a module's process it does not return."""
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # the wakeup descriptor tells
        signal.set_wakeup_fd(self.wake_w)
        self.poll.register(self.control.fileno(), select.POLLIN)
        self.poll.register(self.wake_r, select.POLLIN)
        self.poll.register(self.ends_r, select.POLLIN)
        while self.open or self.news or self.ending:
            ready = self.poll.poll(IDLE if self.due and not self.news else None)
            if not ready:
                self.due = False
                if self.spare is None or self.spare.wrong:
                    self.new_spare()
                self.new_helper()
            for fd, _ in ready:
                if fd == self.wake_r:
                    os.read(self.wake_r, 512)
                    self.reap()
                elif fd == self.ends_r:
                    self.hear()
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
            self.end_spare()
            self.end_helper()
            return
        sizes = HEADER.unpack(header + self.read(HEADER.size - len(header)))
        text = self.read(sizes[0])
        task = marshal.loads(text)
        if "kill" in task:
            if task["kill"] == self.helper:
                self.end_helper()
            return
        data = self.read(sizes[1])
        fds = struct.unpack("3i", rights[0][2])
        for digest in task["drop"]:
            archive = self.kept.pop(digest)
            self.prepared.discard(digest)
            if self.helped is not None and self.helped[0] == digest:
                self.end_helper()
            if self.spare is not None:
                self.spare.archives.discard(digest)
            if archive is not None:
                archive.forget()
        try:
            self.begin(task, text, data, fds)
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

    def begin(self, task: "Dict[str, Any]", text: bytes, data: bytes, fds: "Tuple[int, ...]") -> None:
        """Start a module. ``text``: the task, marshalled."""
        news = socket.socket(fileno=fds[2])
        if self.stamp and self.stamp != modules.stamp():
            tell(news, STALE)
            news.close()
            return
        if data and task["digest"] not in self.kept:
            try:
                self.kept[task["digest"]] = modules.Archive(data)
            except Exception:
                self.kept[task["digest"]] = None
        archive = self.kept[task["digest"]]
        if archive is None:  # stock's Python fails as well, and says so at length
            tell(news, STARTED)
            os.write(fds[1], b"zipfile.BadZipFile: File is not a zip file\n")
            tell(news, ENDED, 1 << 8)
            news.close()
            return
        self.warm(archive, task["digest"])
        if task.get("again") and not data and not self.helper and self.helpers < HELPERS:
            self.helped = task["digest"], task["fqn"]
        self.ending = {pid for pid in self.ending  # this module is not to see those
                       if os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])}
        tell(news, STARTED)
        pid = self.hand_over(task["digest"], bool(data), text, fds)
        learn = None  # type: Optional[pages.Place]
        if pid is None:
            if data:
                learn = self.pages.wanted()
            try:
                pid = self.fork()
            except OSError as error:
                os.write(fds[1], ("sh: Cannot fork: %s\n" % error.strerror).encode())
                tell(news, ENDED, 2 << 8)  # dash's
                news.close()
                return
        if pid == 0:
            try:
                self.leave()
                news.close()
                become_module(archive, task, fds[0], fds[1], self.place, learn)
            finally:
                os._exit(1)
        self.news[pid] = news
        self.pids[news.fileno()] = pid
        self.poll.register(news.fileno(), select.POLLIN)

    def fork(self) -> int:
        """See os; where there may be no more processes, those that are not needed make room."""
        try:
            return os.fork()
        except OSError:
            if self.spare is None and not self.helper:
                raise
            self.end_spare()
            self.end_helper()
            return os.fork()

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
                self.stamp = modules.stamp()
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
            _kill(pid)
        else:
            self.poll.unregister(fd)
            del self.pids[fd]

    def reap(self) -> None:
        """Tell of those that have ended."""
        for pid in list(self.news):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self.over(pid, status)
        self.ending = {pid for pid in self.ending if not os.waitpid(pid, os.WNOHANG)[0]}
        if self.spare is not None and os.waitpid(self.spare.pid, os.WNOHANG)[0]:
            self.spare.control.close()
            self.spare = None
        if self.helper:
            ended, status = os.waitpid(self.helper, os.WNOHANG | os.WUNTRACED)
            if ended and os.WIFSTOPPED(status):
                self.end_helper()  # who waits for it has the module run as any other
            elif ended:
                self.helper, self.helped = 0, None
        self.hear()  # what those said that have ended now: their numbers may soon be those of others

    def hear(self) -> None:
        """Tell of those that are about to end."""
        try:
            data = os.read(self.ends_r, END.size * 512)
        except BlockingIOError:
            return
        for at in range(0, len(data), END.size):
            pid, status = END.unpack_from(data, at)
            if pid in self.news:
                self.ending.add(pid)
                self.over(pid, status)

    def over(self, pid: int, status: int) -> None:
        """Tell of one that has ended."""
        news = self.news.pop(pid)
        if self.pids.pop(news.fileno(), None):
            self.poll.unregister(news.fileno())
        tell(news, ENDED, status)
        news.close()
        self.due = self.open and (self.spare is None or self.spare.wrong or self.lacks_helper())

    # -- the spare

    def new_spare(self) -> None:
        """Have a spare that has all archives that are here."""
        self.end_spare()
        self.pages.hear()
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            return  # not here
        with theirs:
            try:
                pid = os.fork()
            except OSError:
                ours.close()
                return
            if pid == 0:
                try:
                    ours.close()
                    self.leave()
                    self.wait(theirs)
                finally:
                    os._exit(1)
        self.spare = Spare(pid, ours, set(self.prepared))
        modules.stamp()  # what the next request needs is copied now, and not then

    def end_spare(self) -> None:
        """Have none any more."""
        spare, self.spare = self.spare, None
        if spare is not None:
            spare.control.close()
            os.kill(spare.pid, signal.SIGKILL)
            os.waitpid(spare.pid, 0)

    def hand_over(self, digest: str, new: bool, text: bytes, fds: "Tuple[int, ...]") -> "Optional[int]":
        """Let the spare be a module's process: its number; None where there is none that can."""
        spare = self.spare
        if spare is None or len(text) > SHORT:
            return None
        if digest not in spare.archives:
            spare.wrong = not new
            return None
        pid, status = os.waitpid(spare.pid, os.WNOHANG | os.WUNTRACED)
        if not pid:
            rights = socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("2i", *fds[:2])
            try:
                spare.control.sendmsg([text], [rights], socket.MSG_DONTWAIT)
            except OSError:
                self.end_spare()
                return None
        elif os.WIFSTOPPED(status):
            self.end_spare()
            return None
        spare.control.close()
        self.spare = None
        return None if pid else spare.pid

    def wait(self, control: "socket.socket") -> None:
        """In the spare: wait for a task, and do it."""
        if not self.pages.copy():
            touch()
        practise()
        text, rights, _, _ = control.recvmsg(SHORT, socket.CMSG_SPACE(8))
        control.close()
        if text:
            task = marshal.loads(text)
            out, err = struct.unpack("2i", rights[0][2])
            become_module(self.kept[task["digest"]], task, out, err, self.place)

    # -- the process that runs a module again and again

    def lacks_helper(self) -> bool:
        """Whether one is wanted, and not there."""
        return self.helped is not None and not self.helper

    def new_helper(self) -> None:
        """Have a process for a module that is run again and again, if one is wanted, and give it away."""
        if self.helped is None or self.helper:
            return
        digest, fqn = self.helped
        self.helpers += 1
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            return
        with ours, theirs:
            try:
                pid = os.fork()
            except OSError:
                return
            if pid == 0:
                try:
                    ours.close()
                    self.leave()
                    again.serve(self.kept[digest], fqn, theirs)
                finally:
                    os._exit(1)
            self.helper = pid
            rights = socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", ours.fileno())
            try:
                self.control.sendmsg([PID.pack(pid), digest.encode()], [rights], socket.MSG_DONTWAIT)
            except OSError:
                pass  # it ends, as nobody has its socket

    def end_helper(self) -> None:
        """Have none any more."""
        pid, self.helper, self.helped = self.helper, 0, None
        if pid:
            _kill(pid)
            os.waitpid(pid, 0)

    # -- in the process of a module

    def leave(self) -> None:
        """Be a session of its own, and close what is the template's."""
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.control.close()
        for each in self.news.values():
            each.close()
        if self.spare is not None:
            self.spare.control.close()
        for fd in [self.wake_r, self.wake_w, self.ends_r, self.ends_w] + [
                each.fd for each in [self.pages, *self.kept.values()] if each is not None and each.fd is not None]:
            os.close(fd)


def _kill(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(pid, signal.SIGKILL)  # it has not got so far yet that the group is its own
