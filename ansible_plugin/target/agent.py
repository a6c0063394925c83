"""What is done on a target: the steps of a request of a worker, one after the other, each at its seat.

A *seat* is an account: ``None`` (this one), or a ``seats.Way`` to another. The contexts of seats are grown here, on the
host itself, and live as long as the link: so a request is one round trip, whatever accounts it needs.

A *step* is a list: its kind, its seat, and its arguments. The result of the last one is answered:

    ("done", result, times that another account was become for it)
    ("failed", index, status, stdout, stderr)   an earlier step failed, and the rest was not done
    ("missing", index, digest)                  the archive of a module is wanted; what stands before is done
    ("plain", index, why)                       the interpreter cannot be kept warm; what stands before is done
    ("refused", index, class, phase, text, output, status)  the seat cannot be had; what stands before is done

Commands give (status, stdout, stderr). This module is imported on the target, in the interpreter of the link and in
those of its seats. A module runs in a process of the interpreter that it is for, see ``warm.py``. What is imported here
costs each host some time at its first task, so what few requests need is imported by those; and ``contextree`` itself
would be a hundred kilobytes more.
"""

import os
import stat
import threading

from contextree.core.wire.errors import ConnectError, ContextreeError, UsageError

from . import archives, process, warm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple

    from contextree.parent.context import Context

    from . import seats

THREADS = 64  # requests that run at once in one interpreter

PATIENCE = 2.0  # seconds for programs to end that were killed

_lock = threading.Lock()
_idle = threading.Condition()
_busy = 0  # requests
_templates = {}  # type: Dict[Tuple[str, ...], warm.Template]
#: interpreters that cannot be kept warm, with the variables that they start with -> why
_broken = {}  # type: Dict[Tuple[Any, ...], str]
_store = archives.Store()
_accounts = None  # type: Optional[seats.Accounts]


def do(steps: "List[List[Any]]") -> "Tuple[Any, ...]":
    """Do the steps; see above for what is answered. From any thread."""
    done = 0
    for step in steps:
        if step[0] == "module" and step[3] is not None:
            _store.add(step[2], *step[3])
            step[3] = None
    if _accounts is not None and _accounts.all:
        from . import seats

        if any(map(seats.changes_accounts, steps)):
            _accounts.clear()
    while True:
        seat = steps[done][1]
        count = 1
        while done + count < len(steps) and steps[done + count][1] == seat:
            count += 1
        part = steps[done:done + count]
        answer = do_here(part) if seat is None else do_there(seat, part)
        if answer[0] != "done":
            return (answer[0], answer[1] + done) + tuple(answer[2:])
        done += count
        if done >= len(steps):
            return answer[0], answer[1], 0 if _accounts is None else _accounts.news()


def prepare(words: "List[str]") -> None:
    """Start the template of an interpreter before the first module wants it."""
    try:
        template(tuple(words)).start()
    except OSError:
        pass  # the first module says why


def template(words: "Tuple[str, ...]") -> "warm.Template":
    """The template of an interpreter."""
    with _lock:
        if words not in _templates:
            _templates[words] = warm.Template(words)
        return _templates[words]


def do_there(way: "seats.Way", steps: "List[List[Any]]") -> "Tuple[Any, ...]":
    """Do steps in another account."""
    global _accounts
    from . import seats

    with _lock:
        if _accounts is None:
            _accounts = seats.Accounts()
    python = next((step[4]["python"] for step in steps if step[0] == "module"), None)
    steps = [[step[0], None] + list(step[2:]) for step in steps]
    while True:
        try:
            with _accounts.use(way, python) as place:
                first = place.check()
                answer = ask(place.context, first + steps)
                if answer[0] == "changed":
                    _accounts.renew(place)
                    continue
                if answer[0] != "done":
                    return (answer[0], max(0, answer[1] - len(first))) + tuple(answer[2:])
                result = answer[1]
                if place.asked and steps[-1][0] == "command" and steps[-1][4]:  # on a terminal
                    end = b"\r\r\n" if way.method == "doas" else b"\r\n"  # as after a password that is not echoed
                    result = result[0], end + result[1], result[2]
                return "done", result
        except ConnectError as error:
            return "refused", 0, type(error).__name__, error.phase, str(error), error.output or "", error.status


def ask(context: "Context", steps: "List[List[Any]]") -> "Any":
    """Have steps done in another context, which gets the archives that it lacks."""
    answer = call_through(context, do_here, steps)
    if answer[0] == "missing":
        index = answer[1]
        steps = steps[index:]
        steps[0][3] = _store.get(steps[0][2])
        if steps[0][3] is not None:
            answer = call_through(context, do_here, steps)
            if answer[0] != "done":
                answer = (answer[0], answer[1] + index) + tuple(answer[2:])
    return answer


def call_through(context: "Context", function: "Callable[..., Any]", *args: "Any") -> "Any":
    """Call a function in a context as a part of the call that runs here: it is cancelled when nobody waits for that
    one any more. Where no call runs, or no Future can be had (Debian's python3-minimal), it is a call of its own."""
    try:
        from contextree.parent.current import current_call

        present = current_call()
        future = context.submit(function, *args)
    except UsageError:
        return context.call(function, *args)
    present.on_cancel(future.cancel)
    return future.result()


def do_here(steps: "List[List[Any]]") -> "Tuple[Any, ...]":
    """Do steps in this interpreter."""
    global _busy
    with _idle:
        _busy += 1
    try:
        return _do_here(steps)
    finally:
        with _idle:
            _busy -= 1
            _idle.notify_all()


def ended() -> None:
    """Returns when all requests have ended, which were cancelled just now, and what ran for them was killed; or later,
    when that does not come to an end."""
    for context in [] if _accounts is None else _accounts.contexts():
        try:
            context.with_options(timeout=PATIENCE).call(ended)
        except ContextreeError:
            pass  # so has the seat
    with _idle:
        _idle.wait_for(lambda: not _busy, PATIENCE)


def _do_here(steps: "List[List[Any]]") -> "Tuple[Any, ...]":
    for index, step in enumerate(steps):
        result = KINDS[step[0]](*step[2:])
        if isinstance(result, tuple) and result and isinstance(result[0], str):
            return (result[0], index) + result[1:]
        if index < len(steps) - 1 and isinstance(result, tuple) and result[0] and step[0] != "remove":
            return ("failed", index) + result
    return "done", result


# -- kinds of steps. Those that a shell does in stock give what it would: (status, stdout, stderr)

DONE = 0, b"", b""


#: What the shells that have started this interpreter added to what a login has.
AT_LOGIN = {"SHLVL": None, "OLDPWD": None}  # type: Dict[str, Optional[str]]


def command(argv: "List[str]", data: "Optional[bytes]" = None, terminal: bool = False, cwd: "Optional[str]" = None,
            env: "Optional[Dict[str, Optional[str]]]" = None) -> "Any":
    """A program; where its name is None, the login shell. ("plain", why) where none can be started."""
    login = argv[0] is None
    try:
        result = process.run([login_shell()] + list(argv[1:]) if login else argv, data, terminal, cwd,
                             dict(AT_LOGIN, **(env or {})) if login else env, login)
    except (OSError, RuntimeError) as error:  # no process, no thread, no descriptor
        return "plain", str(error)
    if not login:
        return result
    status, out, err = result
    said = no_home()
    return (status, said.replace(b"\n", b"\r\n") + out, err) if terminal else (status, out, said + err)


def no_home() -> bytes:
    """What sshd says at each login where there is no home directory."""
    path = os.path.expanduser("~")
    try:
        os.stat(path + "/.")
        return b""
    except OSError as error:
        return os.fsencode("Could not chdir to home directory %s: %s\n" % (path, error.strerror))


def login_shell() -> str:
    """The shell of this account."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_shell or "/bin/sh"
    except KeyError:
        return "/bin/sh"


def module(digest: str, data: "Optional[bytes]", task: "Dict[str, Any]") -> "Any":
    """A module of Ansible, in an archive that comes whole from the link's interpreter, or in parts to it."""
    words = tuple(task["python"])
    key = words, warm.at_start(task.get("env") or {})
    if key in _broken:
        return "plain", _broken[key]
    try:
        result = template(words).run(digest, data, task)
        if result == warm.MISSING:
            data = _store.get(digest)
            if data is None:
                return "missing", digest
            result = template(words).run(digest, data, task)
    except OSError as error:
        _broken[key] = str(error)
        return "plain", str(error)
    return result


def mkdtemp(path: str, mode: int, text: str) -> "process.Result":
    """A folder that nobody else can have made, and its parents; ``text`` is what a shell would run."""
    if os.path.isdir(path) and os.stat(path).st_uid == os.geteuid():
        return DONE  # the link broke when this had been done, and it is asked again; nobody can guess that name
    try:
        missing = []
        folder = os.path.dirname(path)
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for folder in reversed(missing):
            try:
                os.mkdir(folder, mode)
            except FileExistsError:
                pass  # somebody else's task was quicker
        os.mkdir(path, mode)
    except OSError:
        return command(["/bin/sh", "-c", text])  # it says in its own words what is wrong
    return DONE


def put(path: str, mode: int, data: bytes) -> "process.Result":
    """The content of a file, which is made with this mode less the umask."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
    except OSError as error:
        return 1, b"", ("%s: %s\n" % (path, error.strerror)).encode("utf-8", "surrogateescape")
    return DONE


def add_mode(paths: "List[str]", bits: int, text: str) -> "process.Result":
    """More bits for the mode of files; ``text`` is what a shell would run."""
    try:
        for path in paths:
            os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) | bits)
    except OSError:
        return command(["/bin/sh", "-c", text])
    return DONE


def remove(path: str) -> "process.Result":
    """A folder or file, and all that is in it; nothing there is well, too."""
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            from shutil import rmtree

            rmtree(path)
        else:
            os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError:
        return command(["/bin/sh", "-c", 'rm -f -r "$0" > /dev/null 2>&1', path])
    return DONE


def home(user: str) -> str:
    """The home directory of a user, or of this account, as a shell has it."""
    return os.path.expanduser("~" + user)


def read(path: str, limit: int) -> "Any":
    """A file: [mode, content], without content where that is more than ``limit`` bytes; None where it is none."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait
            return None
        with open(path, "rb") as file:
            data = file.read(limit + 1)  # type: Optional[bytes]
            if data is not None and len(data) > limit:
                data = None
            return [stat.S_IMODE(os.fstat(file.fileno()).st_mode), data]
    except OSError:
        return None


def same(paths: "List[str]", looks: "List[Any]") -> "Any":
    """Whether files are as they were."""
    from . import seats

    return None if seats.stamps(paths) == [look and tuple(look) for look in looks] else ("changed",)


KINDS = {"command": command, "module": module, "mkdtemp": mkdtemp, "put": put, "add_mode": add_mode, "remove": remove,
         "home": home, "read": read, "same": same}  # type: Dict[str, Callable[..., Any]]
