"""Warm Python for modules: a template process that has Ansible's ``module_utils`` imported, and forks for each module.

The template is exec'd and has one thread (docs/decisions/0003), and is what stock would start for the module; see
``template.py``, its program. Here is the agent's end of it.
"""

import marshal
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib
from binascii import b2a_base64
from collections import OrderedDict

from .helper import LOOK, Helper, watched
from .talk import ENDED, HEADER, KILL, NEWS, PID, STALE, STARTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Sequence, Tuple

MISSING = "missing"
LIMIT = 1 << 29  # bytes that a module or a program may say
DIED = 128 + 9  # what a shell says of a program that was killed
TOO_MUCH = b"it was killed, as it has said more than %d bytes\n" % LIMIT
KEPT = 64 << 20  # bytes of archives that a template keeps
TEMPLATES = 4  # processes at a time: environments that a Python must be started with
TRIES = 4  # starts of a template for one run
# Variables that a Python, its site module, the C library or that of SSL reads when it starts, and never again.
STARTUP = "PYTHON", "_PYTHON", "LD_", "DYLD_", "LC_", "MALLOC_", "OPENSSL_"
STARTUP_NAMES = "LANG", "HOME", "GLIBC_TUNABLES", "LOCPATH", "GCONV_PATH", "COVERAGE_PROCESS_START", "LIBPATH"
SAID = {1: "Hangup", 3: "Quit", 4: "Illegal instruction", 5: "Trace/breakpoint trap", 6: "Aborted", 7: "Bus error",
        8: "Floating point exception", 9: "Killed", 10: "User defined signal 1", 11: "Segmentation fault",
        12: "User defined signal 2", 14: "Alarm clock", 15: "Terminated"}  # Linux; for Python before 3.8

_BOOT = """import sys
sys.path[:] = [each for each in sys.path if each]
def start():
    import binascii, marshal, zlib
    kind = type(sys)
    package = sys.modules["contextree_ansible"] = kind("contextree_ansible")
    package.__path__ = []
    texts, packed = [zlib.decompress(binascii.a2b_base64(each)) for each in ("%s", "%s")]
    codes = marshal.loads(packed) if sys.version == %r else [
        (name, compile(text, name + ".py", "exec")) for name, text in marshal.loads(texts)]
    for name, code in codes:
        module = kind("contextree_ansible." + name)
        module.__package__ = "contextree_ansible"
        module.__file__ = code.co_filename
        sys.modules[module.__name__] = module
        setattr(package, name, module)
        exec(code, module.__dict__)
    module.Template(%d).run()
start()
"""


class Template:
    """Templates of one interpreter. Nothing is started before the first module. From any thread."""

    def __init__(self, argv: "Sequence[str]" = ()) -> None:
        """``argv``: the words of the interpreter; this one."""
        self.argv = list(argv) or [sys.executable]
        self.lock = threading.Lock()
        self.processes = OrderedDict()  # type: OrderedDict[Tuple[Tuple[str, Optional[str]], ...], Process]
        self.closed = False

    def start(self) -> None:
        """Start a template before it is needed."""
        self.process(())

    def has(self, digest: str) -> bool:
        """Whether the archive with this digest need not be sent."""
        with self.lock:
            return bool(self.processes) and all(digest in each.known for each in self.processes.values())

    def run(self, digest: str, data: "Optional[bytes]", task: "Dict[str, Any]") -> "Any":
        """Run a module; (status, stdout, stderr) of its process as a shell has them, or MISSING where its archive is
        wanted. What ends the call of contextree in which this runs kills the module and all of its process group."""
        again = bool(task.get("again")) and not task.get("rlimit") and task.get("umask") is None
        whole = {"again": again, "digest": digest,
                 "fqn": task["fqn"], "params": task["params"], "profile": task.get("profile"),
                 "extensions": task.get("extensions") or {}, "rlimit": task.get("rlimit") or 0,
                 "env": dict(task.get("env") or {}), "cwd": task.get("cwd"), "umask": task.get("umask")}
        startup = at_start(whole["env"])
        for _ in range(TRIES):
            process = self.process(startup)
            found = process.run(digest, data, whole)
            if found is not None:
                return found
        raise OSError("the template process of %s ends at once, with status %s" % (" ".join(self.argv),
                                                                                  process.child.returncode))

    def process(self, startup: "Tuple[Tuple[str, Optional[str]], ...]") -> "Process":
        """The process whose Python was started with such variables."""
        with self.lock:
            if self.closed:
                raise RuntimeError("this template is closed")
            process = self.processes.get(startup)
            if process is None or process.over:
                process = self.processes[startup] = Process(self.argv, startup)
            self.processes.move_to_end(startup)
            while len(self.processes) > TEMPLATES:
                self.processes.popitem(last=False)[1].close()
            return process

    def close(self) -> None:
        """End the templates; each ends once no module of it runs any more. Idempotent."""
        with self.lock:
            self.closed = True
            processes = list(self.processes.values())
            self.processes.clear()
        for each in processes:
            each.close()


class Process:
    """One template process."""

    def __init__(self, argv: "Sequence[str]", startup: "Sequence[Tuple[str, Optional[str]]]") -> None:
        self.lock = threading.Lock()
        self.known = OrderedDict()  # type: OrderedDict[str, int]  # archives -> their sizes
        self.over = False
        self.helper = None  # type: Optional[Helper]  # of a module, while nobody uses it
        self.socket, theirs = socket.socketpair()
        script_r, script_w = os.pipe()
        out_r, out_w = os.pipe()  # as its modules will have, until they get theirs
        try:
            env = environment()
            for name, value in startup:
                if value is None:
                    env.pop(name, None)
                else:
                    env[name] = value
            self.child = subprocess.Popen(list(argv) + ["-", "contextree:ansible"], stdin=script_r, stdout=out_w,
                                          stderr=out_w, env=env, pass_fds=(theirs.fileno(),), start_new_session=True)
            os.close(script_r)
            script_r = -1  # if Python ends before it has read all, nobody can read it
            text = program(theirs.fileno())  # while Python starts
            try:
                while text:
                    text = text[os.write(script_w, text):]
            except BrokenPipeError:
                pass  # it has ended: the first run sees that
        except BaseException:
            self.socket.close()
            raise
        finally:
            theirs.close()
            for fd in {script_r, script_w, out_r, out_w} - {-1}:
                os.close(fd)

    def run(self, digest: str, data: "Optional[bytes]", task: "Dict[str, Any]") -> "Any":
        """See Template.run; None: nothing has been done, and this process is no good any more."""
        if task["again"]:
            found = self.help(digest, task)
            if found is not None:
                return found
        out_r, out_w = os.pipe()
        err_r, err_w = os.pipe()
        ours, theirs = socket.socketpair()
        run = Run(out_r, err_r, ours)
        try:
            try:
                sent = self.send(digest, data, task, (out_w, err_w, theirs.fileno()))
            finally:
                os.close(out_w)
                os.close(err_w)
                theirs.close()
            if sent is not True:
                return sent
            found = run.result()
            if found is None:
                self.close()
            return found
        finally:
            run.close()

    def help(self, digest: str, task: "Dict[str, Any]") -> "Any":
        """The result of a module that is run again and again by a process of its own; None where that cannot be had."""
        with self.lock:
            helper, self.helper = self.helper, None
            if helper is None and not self.over:
                helper = self.given()
        if helper is None:
            return None
        found = helper.run(digest, task) if helper.digest == digest else None
        with self.lock:
            if found is not None and not self.over and self.helper is None:
                self.helper, helper = helper, None
        if helper is not None:
            helper.close()
        return found

    def given(self) -> "Optional[Helper]":
        """What the template has given away since it was last asked. Holding the lock."""
        try:
            message, rights, _, _ = self.socket.recvmsg(256, socket.CMSG_SPACE(4), socket.MSG_DONTWAIT)
        except OSError:
            return None
        if not rights:
            return None
        fd, = struct.unpack("i", rights[0][2])
        os.set_inheritable(fd, False)
        return Helper(socket.socket(fileno=fd), PID.unpack_from(message)[0], message[PID.size:].decode(), self.kill)

    def kill(self, pid: int) -> None:
        """Have a process killed that was given away. From any thread."""
        text = marshal.dumps({"kill": pid})
        with self.lock:
            try:
                self.socket.sendall(HEADER.pack(len(text), 0) + text)
            except OSError:
                pass  # it has ended, and all that was its own

    def send(self, digest: str, data: "Optional[bytes]", task: "Dict[str, Any]", fds: "Sequence[int]") -> "Any":
        """Ask for a run: True; MISSING; or None: it has ended."""
        with self.lock:
            if self.over:
                return None
            if digest in self.known:
                self.known.move_to_end(digest)
                data = b""
            elif data is None:
                return MISSING
            else:
                self.known[digest] = len(data)
            task["drop"] = self.drop()
            text = marshal.dumps(task)
            message = memoryview(b"".join((HEADER.pack(len(text), len(data)), text, data)))
            try:
                rights = socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("3i", *fds)
                count = self.socket.sendmsg([message], [rights])
                self.socket.sendall(message[count:])
            except OSError:
                pass  # it has ended: the socket for news says so as well
            return True

    def drop(self) -> "List[str]":
        """The oldest archives, when there are too many."""
        dropped = []
        while sum(self.known.values()) > KEPT and len(self.known) > 1:
            dropped.append(self.known.popitem(last=False)[0])
        return dropped

    def close(self) -> None:
        """Let it end. Idempotent."""
        with self.lock:
            if self.over:
                return
            self.over = True
            if self.helper is not None:
                self.helper.close()
            self.socket.close()
        threading.Thread(target=self.child.wait, name="contextree:ansible", daemon=True).start()


class Run:
    """One run of a module, seen by the thread that waits for it."""

    def __init__(self, out: int, err: int, news: "socket.socket") -> None:
        self.news = news
        self.parts = {out: [], err: []}  # type: Dict[int, List[bytes]]
        self.fds = out, err
        self.read = b""
        self.size = 0  # of what the module has said
        self.killed = False

    def result(self) -> "Optional[Tuple[int, bytes, bytes]]":
        """Wait for it; None: it has not begun, and never will."""
        call = watched(self)
        poll = select.poll()
        for fd in self.fds + (self.news.fileno(),):
            poll.register(fd, select.POLLIN)
        open_ones, ended = 3, False
        try:
            while open_ones and not (self.killed and ended):  # what it has left running may hold the outputs
                for fd, _ in poll.poll(int(LOOK * 1000)):
                    if not self.readable(fd):
                        poll.unregister(fd)
                        open_ones -= 1
                        ended = ended or fd == self.news.fileno()
        except BaseException:
            self.kill()
            raise
        if call is not None:
            call.check()
        said = [NEWS.unpack_from(self.read, at) for at in range(0, len(self.read) - NEWS.size + 1, NEWS.size)]
        if not said or said[0][0] == STALE:
            return None
        status = said[1][1] if len(said) > 1 else None
        if self.size > LIMIT:
            return DIED, b"", TOO_MUCH
        out, err = (b"".join(self.parts[fd]) for fd in self.fds)
        if status is None:
            status = signal.SIGKILL  # the template was killed, and with it went what its modules would have said
        code, text = shell_status(status)
        return code, out, err + text

    def readable(self, fd: int) -> bool:
        """Take what has come; False at the end."""
        if fd in self.parts:
            data = os.read(fd, 1 << 18)
            self.size += len(data)
            if data and self.size <= LIMIT:
                self.parts[fd].append(data)
            elif data:
                self.parts = {each: [] for each in self.fds}
                self.kill()
            return bool(data)
        try:
            data = self.news.recv(64)
        except ConnectionError:
            data = b""
        self.read += data
        return bool(data) and len(self.read) < 2 * NEWS.size

    def kill(self) -> None:
        """Have the module killed. From any thread, while ``result`` runs."""
        self.killed = True
        try:
            self.news.send(KILL)
        except OSError:
            pass

    def close(self) -> None:
        """Forget it."""
        self.news.close()
        for fd in self.fds:
            os.close(fd)


def shell_status(status: int) -> "Tuple[int, bytes]":
    """An exit status as a shell has it, of a wait status; and what the shell says of it on its standard error."""
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status), b""
    number = os.WTERMSIG(status)
    text = ""
    if number not in (signal.SIGINT, signal.SIGPIPE):
        text = getattr(signal, "strsignal", SAID.get)(number) or "Signal %d" % number  # 3.8+
        text += " (core dumped)\n" if os.WCOREDUMP(status) else "\n"
    return 128 + number, text.encode()


def environment() -> "Dict[str, str]":
    """The environment of this process as it was when its Python started. That may have coerced the locale for its own
    sake (PEP 538, 3.7 and newer): other programs must not see it, nor a Python that is given another locale."""
    env = dict(os.environ)
    if (sys.version_info >= (3, 7) and env.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8") and not env.get("LC_ALL")
            and env.get("LANG", "") in ("", "C", "POSIX")):
        try:
            with open("/proc/self/environ", "rb") as file:
                given = b"\0LC_CTYPE=" in b"\0" + file.read()
        except OSError:
            given = False  # where a Python is started, it does the same once more
        if not given:
            del env["LC_CTYPE"]
    return env


def at_start(env: "Dict[str, Optional[str]]") -> "Tuple[Tuple[str, Optional[str]], ...]":
    """Those of a task's variables that only a Python which starts with them would heed."""
    return tuple(sorted((name, value) for name, value in env.items()
                        if (name.startswith(STARTUP) or name in STARTUP_NAMES) and os.environ.get(name) != value))


def program(fd: int) -> bytes:
    """The script of a template that reads requests from ``fd``: as code for a Python like this one, else as text."""
    global _parts
    if _parts is None:
        from importlib.util import find_spec

        texts, codes = [], []
        for name in "talk", "modules", "pages", "player", "again", "template":
            spec = find_spec("%s.%s" % (__package__, name))  # type: Any
            text = spec.loader.get_source(spec.name)
            codes.append((name, compile(text, spec.origin or name, "exec", 0, True, 2)))  # 2: without docstrings
            texts.append((name, text))
        _parts = tuple(b2a_base64(zlib.compress(each, 9)).decode().strip()
                       for each in (marshal.dumps(texts, 2), marshal.dumps(codes)))  # 2: any Python reads that
    return (_BOOT % (_parts + (sys.version, fd))).encode()


_parts = None  # type: Any
