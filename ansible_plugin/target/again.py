"""A process that runs one module again and again: core's own ``stat``, which only looks (docs/decisions/0037).

The controller says of an archive that it is that, having compared each of its files (``controller/looks.py``). A task
that names nothing but variables and a directory comes over a socket, its result goes back: two messages, where the
process of a module costs some thousand page faults. What the process is after a run is compared with what it was before
the first one. If anything is left, it ends, and so it does when anything was said on standard error; where no answer
comes, the caller runs the module as any other, because it changes nothing.
"""

import atexit
import gc
import marshal
import os
import signal
import sys

from . import modules, player

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any, Dict, List, Tuple

SIZE = 1 << 16  # bytes of a task, and of an answer: what a socket takes at once
RUNS = 5000
ARGUMENTS = "_ANSIBLE_ARGS", "_ANSIBLE_PROFILE", "_PARSED_MODULE_ARGS"  # what core leaves in ``basic``


def serve(archive: "modules.Archive", fqn: str, control: "socket.socket") -> None:
    """In a process of its own: run the module for whoever asks, as long as a new one would be the same."""
    for number in 1, 2:
        fd = modules.nameless()
        os.dup2(fd, number)
        os.close(fd)
    atexit._clear()
    player.environ({"env": {}, "cwd": None, "umask": None})
    player.like_stock(archive)
    __import__(modules.FIRST[0])
    __import__(fqn.rpartition(".")[0])
    gc.collect()
    state = State()
    if hasattr(gc, "freeze"):
        getattr(gc, "freeze")()  # noqa: B009  3.7+
    begun = modules.stamp(), names(), os.getppid()
    for _ in range(RUNS):
        text = control.recv(SIZE)
        if not text or (modules.stamp(), names(), os.getppid()) != begun:
            return
        task = marshal.loads(text)
        try:
            player.environ(task)
            os.getcwd()
        except OSError:
            return
        player.new_main()
        status = player.guarded(player.played, archive, task, True)
        if len(sys._current_frames()) > 1:  # another thread
            return
        atexit._run_exitfuncs()
        for stream in sys.stdout, sys.stderr:
            stream.flush()
        answer = status, said(1), said(2)
        text = marshal.dumps(answer)
        if len(text) > SIZE:
            return
        control.send(text)
        gc.collect()
        if answer[2] or not state.restored():
            return


def names() -> "Any":
    """What says where names of users are looked up: before glibc 2.33 a process does not see that change."""
    try:
        look = os.stat("/etc/nsswitch.conf")
        return look.st_ino, look.st_mtime
    except OSError:
        return None


def said(fd: int) -> bytes:
    """What was written to an output, which is empty again then."""
    data = os.pread(fd, os.fstat(fd).st_size, 0)
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)
    return data


class State:
    """What a process is."""

    def __init__(self) -> None:
        self.environ = dict(os.environ)
        self.folder = os.getcwd()
        self.umask = os.umask(0o77)
        os.umask(self.umask)
        self.arguments = self.of_core()
        self.parts = [(each, copied(each)) for each in parts()]
        self.rest = self.others()

    def restored(self) -> bool:
        """Put back what a task says, and what core keeps of it: is all as it was?"""
        if dict(os.environ) != self.environ:
            os.environ.clear()
            os.environ.update(self.environ)
        if "syslog" in sys.modules:
            sys.modules["syslog"].closelog()  # type: ignore[attr-defined]
        try:
            os.chdir(self.folder)
        except OSError:
            return False
        os.umask(self.umask)
        vars(sys.modules[modules.FIRST[0]]).update(self.arguments)
        return self.others() == self.rest and all(each == kept for each, kept in self.parts)

    def of_core(self) -> "Dict[str, Any]":
        """What ``basic`` has at first where it will keep the arguments of a module."""
        found = vars(sys.modules[modules.FIRST[0]])
        return {name: found[name] for name in ARGUMENTS if name in found}

    def others(self) -> "Tuple[Any, ...]":
        """What is neither of a task nor of Ansible."""
        try:
            with open("/proc/%d/task/%d/children" % (os.getpid(), os.getpid())) as file:
                children = file.read()
        except OSError:
            children = ""  # the kernel does not say
        return (children, os.listdir("/proc/self/fd"), list(sys.modules), sys.path[:], sys.argv[:], sys.meta_path[:],
                sys.stdin, sys.stdout, sys.stderr, sys.excepthook, [signal.getsignal(each) for each in range(1, 32)],
                signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.getitimer(signal.ITIMER_REAL)[0],
                list(getattr(sys.modules.get("warnings"), "filters", ())))


def parts() -> "List[Any]":
    """What is imported of Ansible: the variables of its modules and classes, and what they have that can be changed."""
    found = [module.__dict__ for name, module in list(sys.modules.items())
             if name.split(".")[0] == "ansible"]  # type: List[Any]
    found += [vars(value) for each in list(found) for value in each.values()
              if isinstance(value, type) and value.__module__.split(".")[0] == "ansible"]
    for each in list(found):
        found += [value for value in each.values() if type(value) in (list, dict, set)]
    return found


def copied(thing: "Any") -> "Any":
    """What it is now, to be compared with later."""
    return dict(thing) if hasattr(thing, "keys") else thing.copy()
