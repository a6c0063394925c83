"""The process that is forked for a module: it becomes what a Python is that stock starts for it, runs it, and ends as
that would.

It is forked by the template (``template.py``), for a module that is there or as a spare for the next one. What each
module needs is touched in a spare while it waits: what a fork shares with its parent is copied, page by page, when
either changes it, and Python changes each object that it looks at. That is most of what a short module takes.
"""

import atexit
import gc
import marshal
import os
import runpy
import signal
import sys
import time

from . import modules, pages
from .talk import END

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Dict, Optional, Tuple

    Place = Tuple[int, str, Tuple[int, int]]  # the template's process, the path of a pipe of it, which one that is


PARTS = ["contextree_ansible"] + ["contextree_ansible." + name for name in (
    "talk", "modules", "pages", "player", "again", "template")]


def touch() -> None:
    """In a spare, where the kernel cannot do it: look at the functions that modules use, so that this process has its
    own copies of them. Nothing is changed by that. Half of what is copied here each module needs; to look at all that
    is imported takes longer than it saves."""
    contents = [vars(sys.modules[name]) for name in modules.imported if name in sys.modules]
    gc.get_referents(*[each for each in gc.get_referents(*contents) if type(each) is type(touch)])


def practise() -> None:
    """In a spare: do in vain what is done before each module."""
    environ(marshal.loads(marshal.dumps({"env": {}, "cwd": None, "umask": None})))
    os.path.realpath("<stdin>")


def become_module(archive: "modules.Archive", task: "Dict[str, Any]", out: int, err: int, place: "Place",
                  learn: "Optional[pages.Place]" = None) -> None:
    """Be the module, with these outputs. Does not return. ``place`` is where the template hears of its end, ``learn``
    of what it needed."""
    for fd, number in (out, 1), (err, 2):
        os.dup2(fd, number)
        os.close(fd)
    status = ended(guarded(played, archive, task))
    try:
        if last_words(place, status) and learn is not None:
            pages.write_down(learn)
    finally:
        os._exit(status)


def last_words(place: "Place", status: int) -> bool:
    """Close all that is open in this process, and tell the template with what status it ends: the kernel takes about as
    long as a small module to do away with its memory. Where that cannot be told, the template hears of the end itself.
    No descriptor was kept for this, because a module would see it. True: it was told."""
    pid, path, which = place
    try:
        if os.getppid() != pid or len(os.listdir("/proc/self/task")) > 1:
            return False  # a fork of the module's; or there are threads, which may still be at something
        pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        look = os.fstat(pipe)
        if (look.st_dev, look.st_ino) != which:
            return False
        for fd in {int(name) for name in os.listdir("/proc/self/fd")} - {1, 2, pipe}:
            try:
                os.close(fd)
            except OSError:
                pass  # that of the folder, for example
        os.write(pipe, END.pack(os.getpid(), status << 8))
        os.closerange(1, 3)  # only now: whoever reads them would wake up twice
        return True
    except Exception:
        return False  # the template hears of the end itself


def guarded(function: "Any", *args: "Any") -> int:
    """The exit status of a Python program that is ``function``."""
    try:
        function(*args)
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
    except BaseException as raised:
        error = raised
        error.__traceback__ = own(error.__traceback__)
        status = guarded(hooked, error)
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


def played(archive: "modules.Archive", task: "Dict[str, Any]", ready: bool = False) -> None:
    """Do what the text does that stock gives to Python. ``ready``: up to the module itself, that has been done. An
    error that comes out of it is shown without lines of source, as in stock, where the archive has been removed
    then."""
    try:
        if not ready:
            get_ready(archive, task)
        execute(archive, task)
    except SystemExit:
        raise
    except BaseException:
        archive.modules.clear()
        raise


def get_ready(archive: "modules.Archive", task: "Dict[str, Any]") -> None:
    """What comes before the module."""
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
    like_stock(archive)


def like_stock(archive: "modules.Archive") -> None:
    """Have what a Python has that is fed with the text of stock, and nothing of ours."""
    for name in PARTS:
        del sys.modules[name]
    new_main()
    sys.argv[:] = [""]
    getattr(sys, "orig_argv", sys.argv)[1:] = []  # 3.10+
    here = os.path.dirname(os.path.realpath("<stdin>"))
    sys.path[:] = [each for each in sys.path if each not in ("", ".", here)]
    modules.enter(archive)


def new_main() -> None:
    """An empty ``__main__``."""
    main = sys.modules["__main__"] = type(sys)("__main__")
    main.__builtins__ = sys.modules["builtins"]  # type: ignore[attr-defined]
    main.__file__ = "<stdin>"


def execute(archive: "modules.Archive", task: "Dict[str, Any]") -> None:
    """Run the module."""
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
