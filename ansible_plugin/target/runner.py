"""Modules of Ansible on the target: a process for each task, forked from an interpreter that has the code already."""

import errno
import gc
import os
import select
import signal
import sys

from . import modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

MISSING = "missing"


def run(digest: str, data: "Optional[bytes]", task: "Dict[str, Any]") -> "Any":
    """Run a module; (status, stdout, stderr) of its process, or MISSING where its archive has not come yet."""
    archive = modules.known(digest)
    if archive is None:
        if data is None:
            return MISSING
        archive = modules.keep(digest, data)
    modules.warm(archive, task["fqn"])
    out_r, out_w = os.pipe()
    err_r, err_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        become_task(archive, task, out_w, err_w)
    os.close(out_w)
    os.close(err_w)
    return collect(pid, out_r, err_r)


def collect(pid: int, out: int, err: int) -> "Tuple[int, bytes, bytes]":
    """The output and the status of a process, when it has ended and nobody holds its stdout any more."""
    parts = {out: [], err: []}  # type: Dict[int, List[bytes]]
    poll = select.poll()
    for fd in parts:
        poll.register(fd, select.POLLIN)
    left = 2
    while left:
        for fd, _ in poll.poll():
            data = os.read(fd, 65536)
            if data:
                parts[fd].append(data)
            else:
                poll.unregister(fd)
                os.close(fd)
                left -= 1
    status = os.waitpid(pid, 0)[1]
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
    return code, b"".join(parts[out]), b"".join(parts[err])


def become_task(archive: "modules.Archive", task: "Dict[str, Any]", out: int, err: int) -> None:
    """In the forked process: be the module. Does not return."""
    status = 1
    try:
        gc.disable()
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in range(1, signal.NSIG):
            try:
                signal.signal(number, signal.SIG_DFL)
            except (ValueError, OSError):
                pass
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        null = os.open("/dev/null", os.O_RDONLY)
        for fd, number in (null, 0), (out, 1), (err, 2):
            os.dup2(fd, number)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        sys.stdin = sys.__stdin__ = open(0, closefd=False)
        sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)
        sys.stderr = sys.__stderr__ = open(2, "w", 1, errors="backslashreplace", closefd=False)
        status = play(archive, task)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in sys.stdout, sys.stderr:
            try:
                stream.flush()
            except OSError:
                pass
        os._exit(status)


def play(archive: "modules.Archive", task: "Dict[str, Any]") -> int:
    """Run the module as ``__main__``; its exit status."""
    import atexit
    import runpy

    atexit._clear()
    os.environ.update(task["env"])
    sys.argv[:] = [""]
    path = archive_path(archive)
    modules.enter(archive, path)
    sys.path.insert(0, path)
    try:
        if task["profile"] is not None:
            from ansible.module_utils._internal._ansiballz import _loader  # type: ignore[import-not-found]

            _loader.run_module(json_params=task["params"], profile=task["profile"], module_fqn=task["fqn"],
                               modlib_path=path, extensions=task["extensions"])
        else:
            from ansible.module_utils import basic  # type: ignore[import-not-found]

            basic._ANSIBLE_ARGS = task["params"]
            runpy.run_module(mod_name=task["fqn"], init_globals={"_module_fqn": task["fqn"], "_modlib_path": path},
                             run_name="__main__", alter_sys=True)
        return 0
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    finally:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()
        atexit._run_exitfuncs()


def archive_path(archive: "modules.Archive") -> str:
    """A path by which other processes can read the archive as well: respawned modules do."""
    try:
        fd = os.memfd_create("ansible", 0)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENOSYS:
            raise
        import tempfile

        fd, path = tempfile.mkstemp(".zip", "ansible_payload_")
        os.write(fd, archive.data)
        return path
    os.write(fd, archive.data)
    return "/proc/%d/fd/%d" % (os.getpid(), fd)
