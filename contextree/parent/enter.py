"""The launcher of ``setns``: a program of its own that enters the namespaces of a process and becomes a command there.

``contextree.connect.setns`` puts it on a command line, run by the interpreter of the context that starts the child:

    python -ISc PROGRAM pid=123 | ask=WORD ... answer=REGEX  [namespaces=a,b] [tool=WORD ...] [env=target] -- COMMAND

and ``contextree.connect.inside`` where a Python is lent, for a root directory too (``root=DIRECTORY``). It is copied by
this program, once it is inside, so that nothing in there can make it write anywhere else:

    python -ISc PROGRAM pid=123 | ask=... | root=DIRECTORY  lend=DIRECTORY place=DIRECTORY | remove=DIRECTORY --

How it works.

* Which process. ``/proc/PID`` is opened once, and all else is opened below that descriptor: should the process end and
  another one get its number, these files are gone (ESRCH), they are never the other's. Where a tool was asked for the
  number, the process must have been there before we asked, else the number had been given to another one meanwhile.
* The order is that of nsenter. First all namespaces but the user's: whoever is root outside may enter them. Then the
  user's, which gives us the rights in it and takes away those outside. Then those that were refused at first. What we
  are in already is left out; entering one's own user namespace is an error.
* The root directory of the process is opened before and entered after.
* A pid namespace counts for children: so it forks, waits, and ends as the child does, killed by the same signal if it
  was. In the child all that is open is 0 to 2.

It uses no module of contextree and nothing later than 3.6. Each failure is one line ``contextree: PHASE: why`` on
stderr and status 121, or 127 where the command is missing.
"""

import os
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, NoReturn, Optional

# in /proc/PID/ns -> the flag of setns(2)
FLAGS = {"cgroup": 0x02000000, "ipc": 0x08000000, "uts": 0x04000000, "net": 0x40000000, "time": 0x80,
         "pid": 0x20000000, "mnt": 0x00020000, "user": 0x10000000}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FAILED = 121
quiet = False


def main(words: "List[str]") -> "NoReturn":
    """Do as the words say; does not return."""
    global quiet
    cut = words.index("--")
    command = words[cut + 1:]
    options = {}  # type: Dict[str, List[str]]
    for word in words[:cut]:
        key, _, value = word.partition("=")
        options.setdefault(key, []).append(value)
    quiet = "remove" in options
    if "lend" in options:
        source = directory(options["lend"][0], "lend")
    if "root" in options:
        go(directory(options["root"][0], "enter"), options["root"][0])
    else:
        inside(options, command)
    if "lend" in options:
        lend(source, options["place"][0])
    elif "remove" in options:
        remove(options["remove"][0])
    os._exit(0)


def inside(options: "Dict[str, List[str]]", command: "List[str]") -> None:
    """Enter a process, and become the command; where there is none return."""
    begun = uptime()
    pid = int(options["pid"][0]) if "pid" in options else ask(options["ask"], options["answer"][0])
    folder = open_process(pid)
    if "ask" in options and started(folder, pid) > begun + 0.02:
        fail("connect", "the container ended just now: process %d is another one" % pid)
    names = options["namespaces"][0].split(",") if "namespaces" in options else list(FLAGS)
    found = namespaces(folder, pid, names)
    root = below(folder, "root", pid) if "mnt" in names else None
    env = environment(folder) if "env" in options else dict(os.environ)
    call = setns()
    stay = "user" not in found or denied(folder, pid)
    os.close(folder)
    if command and ("tool" in options or call is None):
        by_nsenter(options.get("tool", ["nsenter"]), found, root, stay, command, env)
    if call is None:
        fail("start", "lending takes os.setns (Python 3.12) or ctypes, and this Python has neither")
    enter(call, found, pid)
    if root is not None:
        go(root, "/proc/%d/root" % pid)
    if "user" in found:
        be_root()
    if command and ("pid" in found or "time" in found):
        fork()
    if command:
        become(command, env)


def fail(phase: str, text: str, status: int = FAILED) -> "NoReturn":
    """Say why, and end."""
    if quiet:
        os._exit(0)  # what is to be cleared up is gone with its container
    sys.stderr.write("contextree: %s: %s\n" % (phase, text))
    sys.stderr.flush()
    os._exit(status)


def ask(command: "List[str]", answer: str) -> int:
    """The number that a tool tells."""
    import subprocess

    try:
        done = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=dict(os.environ, LC_ALL="C.UTF-8"))
    except OSError as error:
        fail("start", "cannot run %s: %s" % (command[0], error.strerror))
    out, err = (data.decode("utf-8", "replace").strip() for data in done.communicate())
    if done.returncode:
        lines = (err or out).splitlines() or ["status %d" % done.returncode]
        fail("connect", "cannot find the container: %s says: %s" % (command[0], lines[-1]))
    match = re.search(answer, out)
    if not match or int(match.group(1)) <= 0:
        fail("connect", "the container does not run, says %s" % command[0])
    return int(match.group(1))


def uptime() -> float:
    """Seconds since the start of the machine, by the clock of ``started``."""
    with open("/proc/uptime") as file:
        return float(file.read().split()[0])


def open_process(pid: int) -> int:
    """A descriptor of its folder in /proc, which is of this process for ever."""
    try:
        return os.open("/proc/%d" % pid, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        fail("connect", "there is no process %d" % pid)


def below(folder: int, name: str, pid: int) -> int:
    """Open a file of the process."""
    try:
        return os.open(name, os.O_RDONLY, dir_fd=folder)
    except PermissionError:
        fail("connect", "this user may not enter process %d: it is another's; that takes root (CAP_SYS_PTRACE)" % pid)
    except OSError as error:
        fail("connect", "process %d has ended, or has no %s: %s" % (pid, name, error.strerror))


def started(folder: int, pid: int) -> float:
    """When the process was started, in seconds since the start of the machine."""
    with os.fdopen(below(folder, "stat", pid), "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19]) / float(os.sysconf("SC_CLK_TCK"))


def namespaces(folder: int, pid: int, names: "List[str]") -> "Dict[str, int]":
    """Descriptors of those that are not ours already."""
    found = {}
    for name in names:
        if name not in FLAGS:
            fail("start", "there is no kind of namespace named %s" % name)
        try:
            ours = os.stat("/proc/self/ns/" + name)
        except OSError:
            continue  # this kernel has none
        fd = below(folder, "ns/" + name, pid)
        if os.path.samestat(ours, os.fstat(fd)):
            os.close(fd)
        else:
            found[name] = fd
    return found


def environment(folder: int) -> "Dict[str, str]":
    """That of the process, as ``docker exec`` gives it, with what keeps the interpreter from its working directory."""
    env = {"PATH": PATH, "HOME": "/root"}
    try:
        with os.fdopen(os.open("environ", os.O_RDONLY, dir_fd=folder), "rb") as file:
            pairs = [pair.partition(b"=") for pair in file.read().split(b"\0")]
        env.update((os.fsdecode(key), os.fsdecode(value)) for key, _, value in pairs if key)
    except OSError:
        pass
    env.update((key, value) for key, value in os.environ.items() if key == "PYTHONSAFEPATH")
    return env


def setns() -> "Optional[Callable[[int, int], object]]":
    """A function (descriptor, flag) that raises OSError; None where there is neither os.setns (3.12) nor ctypes."""
    found = getattr(os, "setns", None)  # type: Optional[Callable[[int, int], object]]
    if found is not None:
        return found
    try:
        import ctypes

        function = ctypes.CDLL(None, use_errno=True).setns
    except (ImportError, OSError, AttributeError):
        return None

    def call(fd: int, flag: int) -> None:
        if function(fd, flag):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return call


def enter(call: "Callable[[int, int], object]", found: "Dict[str, int]", pid: int) -> None:
    """Enter them all, or fail."""
    left = [name for name in found if name != "user"]
    for last in (False, True):
        refused = []
        for name in left:
            try:
                call(found[name], FLAGS[name])
            except OSError as error:
                if last or "user" not in found:
                    fail("connect", "cannot enter the %s namespace of process %d: %s; that takes root "
                                    "(CAP_SYS_ADMIN)" % (name, pid, error.strerror))
                refused.append(name)
        if not last and "user" in found:
            try:
                call(found["user"], FLAGS["user"])
            except OSError as error:
                fail("connect", "cannot enter the user namespace of process %d: %s" % (pid, error.strerror))
        left = refused


def directory(path: str, verb: str) -> int:
    """Open a directory, to do what the verb says."""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        fail("connect", "cannot %s the directory %s: %s" % (verb, path, error.strerror))


def go(root: int, path: str) -> None:
    """Take a directory as the root directory."""
    try:
        os.fchdir(root)
        os.chroot(".")
        os.chdir("/")
    except OSError as error:
        fail("connect", "cannot enter the root directory %s: %s" % (path, error.strerror))


def be_root() -> None:
    """The user 0 of the user namespace, if it has one: ours need not have a number there."""
    steps = [(os.setgroups, []), (os.setgid, 0), (os.setuid, 0)]  # type: List[Any]
    for change, value in steps:
        try:
            change(value)
        except OSError:
            pass  # groups are denied to users without privileges; 0 may not be mapped


def fork() -> None:
    """Go on in a child; the parent passes signals on to it, and ends as it does."""
    from _signal import SIG_BLOCK, SIG_DFL, SIG_SETMASK, pthread_sigmask, signal  # type: ignore[import-not-found]

    asked = (1, 2, 15)  # signal.py, which has the names, imports enum
    old = pthread_sigmask(SIG_BLOCK, asked)
    try:
        child = os.fork()
    except OSError as error:
        fail("connect", "the pid namespace takes no process any more, its first one has ended: %s" % error.strerror)
    if child:
        for number in asked:
            signal(number, lambda number, frame: os.kill(child, number))  # until it is waited for, it is no other's
    pthread_sigmask(SIG_SETMASK, old)
    if not child:
        return
    for fd in range(3):
        os.close(fd)
    status = os.waitpid(child, 0)[1]
    pthread_sigmask(SIG_BLOCK, asked)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != 9:
            signal(number, SIG_DFL)
        os.kill(os.getpid(), number)
        pthread_sigmask(SIG_SETMASK, ())
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1)


def become(command: "List[str]", env: "Dict[str, str]") -> "NoReturn":
    """Run the command in the place of this program."""
    error = OSError(2, os.strerror(2))
    for place in [""] if "/" in command[0] else env.get("PATH", PATH).split(":"):
        try:  # os.execvpe would import a module, which may not be there, or be another Python's
            os.execve(os.path.join(place, command[0]), command, env)
        except OSError as exc:
            if exc.errno not in (2, 20):  # ENOENT, ENOTDIR
                error = exc
    fail("boot", "%s cannot be run there: %s" % (command[0], error.strerror), 126 if error.errno == 13 else 127)


def denied(folder: int, pid: int) -> bool:
    """Whether groups are denied in its user namespace; nsenter would insist on giving ours up."""
    with os.fdopen(below(folder, "setgroups", pid), "rb") as file:
        return file.read().strip() == b"deny"


def by_nsenter(tool: "List[str]", found: "Dict[str, int]", root: "Optional[int]", stay: bool, command: "List[str]",
               env: "Dict[str, str]") -> "NoReturn":
    """The same by the nsenter program, with the descriptors that we have."""
    words = list(tool)
    for name, fd in found.items():
        os.set_inheritable(fd, True)
        words.append("--%s=/proc/self/fd/%d" % ({"mnt": "mount"}.get(name, name), fd))
    if root is not None:
        os.set_inheritable(root, True)
        words += ["--root=/proc/self/fd/%d" % root, "--wd=/proc/self/fd/%d" % root]
    if stay:
        words.append("--preserve-credentials")
    if tool[0].count("/") == 0:
        import shutil

        tool[0] = shutil.which(tool[0]) or tool[0]
    words[0] = tool[0]
    become(words + ["--"] + command, env)


# -- lending

def lend(source: int, place: str) -> None:
    """Copy a directory, from its descriptor, to a place that is not there yet."""
    try:
        os.mkdir(place, 0o755)
        copy(source, os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW))
    except OSError as error:
        clear(place)
        fail("connect", "no Python can be lent there: %s: %s" % (error.filename or place, error.strerror))


def copy(source: int, target: int) -> None:
    """Copy what is in a directory: files, links and directories."""
    import stat

    for name in os.listdir(source):
        facts = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISLNK(facts.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        elif stat.S_ISDIR(facts.st_mode):
            os.mkdir(name, 0o755, dir_fd=target)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            copy(os.open(name, flags, dir_fd=source), os.open(name, flags, dir_fd=target))
        elif stat.S_ISREG(facts.st_mode):
            with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=source), "rb", 0) as reader, os.fdopen(
                    os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=target), "wb") as writer:
                data = reader.read(1 << 20)
                while data:
                    writer.write(data)
                    data = reader.read(1 << 20)
                os.fchmod(writer.fileno(), facts.st_mode & 0o755)
                os.utime(writer.fileno(), ns=(facts.st_atime_ns, facts.st_mtime_ns))  # bytecode has it too
    os.close(source)
    os.close(target)


def remove(place: str) -> None:
    """Remove a directory with all that is in it; whoever ran it may just be writing bytecode there, hence the tries."""
    from time import monotonic

    end = monotonic() + 3
    while clear(place) and monotonic() < end:
        pass
    if os.path.lexists(place):
        sys.stderr.write("contextree: %s cannot be removed\n" % place)
        os._exit(FAILED)


def clear(place: str) -> bool:
    """Remove what can be removed; whether it is still there."""
    for folder, names, files in os.walk(place, topdown=False):
        for name in names + files:
            path = os.path.join(folder, name)
            try:
                os.unlink(path) if name in files or os.path.islink(path) else os.rmdir(path)
            except OSError:
                pass
    try:
        os.rmdir(place)
    except OSError:
        pass
    return os.path.lexists(place)


if __name__ == "__main__":
    main(sys.argv[1:])
