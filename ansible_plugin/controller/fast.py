"""What our connections have in common: what core asks for becomes steps at a host, see ``target.agent``.

A step that nobody need wait for (a folder for temporary files, a small file in it, its removal) stays here until the
next one that core waits for, and goes with it: one round trip. When it fails, what core would have said of it is raised
then. What is no such thing is the command that it is in stock, run over our link; and what our link cannot do, or not
as stock would, is left to core's own connection (``Stock``).

Why this file is long: it is one object, and each of its methods is one that core calls, or half of such a one.
"""

import contextlib
import multiprocessing
import os
import shlex
from typing import Any

from ansible import constants as C  # noqa: N812  as everywhere in ansible
from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

import contextree

from . import ahead, become, payload, ready, worker
from .become import Stock
from .link import Link
from .shell import Notes

display = Display()
TYPE_CHECKING = False
if TYPE_CHECKING:
    from ansible.plugins.connection import ConnectionBase as Base
else:
    Base = object  # ConnectionBase comes in by core's connection

PIPELINING = "ansible_pipelining", "ansible_ssh_pipelining"
NUL = "a NUL, which no program can be given"
SMALL = 1 << 18  # bytes of a file that goes in a request
Result = tuple[int, bytes, bytes]
#: Errors of a request that may have been done all the same: it must not be done again
BEGUN = (contextree.ContextDied, contextree.CallCancelled, contextree.CallTimeout, contextree.RemoteError)

#: By the key of a link: it, and what is to be removed there. Connections come and go within a task.
_removals: dict[str, tuple[Link, list[list[Any]]]] = {}


class Fast(become.Becoming, Base):
    """Mixed into a connection of core, before it. For one thread, as core's are."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        parent = multiprocessing.parent_process()
        self.main_pid = os.getpid() if parent is None or parent.pid is None else parent.pid
        self.later: list[list[Any]] = []  # steps that wait to be sent
        self.tried = False  # they have been sent, but no answer came
        self.sources: dict[str, str] = {}  # files that were put -> what they were here
        self.homes: dict[tuple[str, str], str] = {}
        self.made: set[str] = set()  # folders for temporary files, made by us
        self._link: Link | None = None
        super().__init__(*args, **kwargs)
        self.notes = Notes(self._shell)  # type: ignore[attr-defined]

    # -- what each connection says

    def link(self) -> Link:
        """How the host is reached, by the options as they are now; raises Stock."""
        raise NotImplementedError

    def way(self) -> Link:
        """The same, put together once for each task and item."""
        if self._link is None:
            self._link = self.link()
        return self._link

    def login_argv(self, cmd: str) -> list[str | None]:
        """The words that run a command there; None: the login shell."""
        return [None, "-c", cmd]

    def shell_variables(self) -> dict[str, str]:
        """What a shell that begins there sets for its programs, and a link's interpreter does not have."""
        return {}

    cwd: str | None = None  # where commands and modules run; None: where a login begins
    interpreter: str | None = None  # the path of the one that modules are likely to want
    action: Any = None  # that of the task
    stands_for: str | None = None  # the name that core would give to its own plugin, if a play asked for that

    @property
    def put_mode(self) -> int | None:
        """That of files that are put there, less the umask; None: the mode that they have here."""
        return None

    # -- core's methods

    def _connect(self) -> Any:
        """See core, which keeps a connection from item to item of a loop while it is connected."""
        super()._connect()  # type: ignore[misc]
        self._connected = True
        return self

    def set_options(self, *args: Any, **kwargs: Any) -> None:
        """See core, which does this for each task and item."""
        for name in self._redirected_names or ():  # core asks by these for what it tells of a delegated task (2.21)
            C.config.initialize_plugin_configuration_definitions(
                "connection", name, C.config.get_configuration_definitions("connection", self._load_name))
        super().set_options(*args, **kwargs)  # type: ignore[misc]
        given = kwargs.get("var_options") or {}
        self.as_files = any(name in given for name in PIPELINING) and not self.is_pipelining_wanted()
        self._link = None
        self.action = (kwargs.get("task_keys") or {}).get("action")

    def update_vars(self, variables: dict[str, Any]) -> None:
        """See core, which shows its own name."""
        if self.stands_for is not None:
            variables.setdefault("ansible_connection", self.stands_for)
        self.interpreter = interpreter(variables)
        super().update_vars(variables)  # type: ignore[misc]
        ahead.begin(self, self.action)

    def set_become_plugin(self, plugin: Any) -> None:
        """See core."""
        super().set_become_plugin(plugin)  # type: ignore[misc]
        if plugin is not None:
            self.notes.become(plugin)

    def is_pipelining_enabled(self, wrap_async: bool = False) -> bool:
        """Modules go through stdin, or what looks like it to core, whatever the configuration says; not asynchronous
        ones, and not where a variable of the host or task says that they are not to."""
        plugin = self.become  # type: ignore[attr-defined]
        return not (wrap_async or self.as_files or C.DEFAULT_KEEP_REMOTE_FILES) and (
            plugin is None or self.feeds(plugin))

    def get_option(self, option: str, *args: Any, **kwargs: Any) -> Any:
        """See core; before 2.19 this option is what it goes by (``always_pipeline_modules`` is for async, too)."""
        if option == "pipelining" and self.feeding and not (
                self.as_files or hasattr(ConnectionBase, "is_pipelining_enabled")):
            return self.become is None or self.feeds(self.become)  # type: ignore[attr-defined]
        return super().get_option(option, *args, **kwargs)  # type: ignore[misc]

    def is_pipelining_wanted(self) -> bool:
        """Whether the settings say so: then core says something else where a host is lost."""
        return bool(super().get_option("pipelining"))  # type: ignore[misc]

    as_files = False  # whether modules are to be files there, and no input
    feeding = True  # False while core's own connection runs a command that gets no input

    def reset(self) -> None:
        """See core."""
        try:
            self.hosts("drop", self.way())
        except (contextree.ContextreeError, Stock):
            pass  # there is none
        if os.getpid() == self.main_pid:
            worker.leave()  # this process is forked for each task: it is to have no threads
        super().reset()  # type: ignore[misc]

    # -- steps

    def hosts(self, method: str, *args: Any) -> Any:
        """Call the multiplexer; raises Stock where there is none."""
        try:
            service = worker.hosts(C.DEFAULT_LOCAL_TMP, self.main_pid)
        except (contextree.ContextreeError, OSError, RuntimeError) as error:
            last = str(error).strip().rpartition("\n")[2]
            display.vvv("contextree: %s" % error)
            if os.getppid() == self.main_pid and worker.is_first(C.DEFAULT_LOCAL_TMP):  # else: it was killed
                display.warning(ready.warning("its multiplexer could not be started: %s" % last))
            raise Stock("no multiplexer") from None
        return getattr(service, method)(*args)

    def at_once(self, cmd: str, sudoable: bool) -> Result | None:
        """The result of a command that nobody need wait for, or that is known; None: it has to be run."""
        if "\0" in cmd:
            raise Stock(NUL)
        text, spec = self.meant(cmd, sudoable)
        kind, what = self.notes.meaning.get(text, ("", None))
        if kind == "home" and spec is None:
            return self.shown("EXEC " + cmd, self.home(plain(what)) + "\n")
        if spec is not None:
            return None
        if kind == "mkdtemp":
            path, mode, base = what
            self.later.append(["mkdtemp", None, path, mode, text])
            self.made.add(path)
            return self.shown("EXEC " + cmd, "%s=%s\n" % (base, path))
        if kind == "add_mode" and all(self.ours(path) for path in what[0]):
            self.later.append(["add_mode", None, *what, text])
            return self.shown("EXEC " + cmd)
        if kind == "remove" and self.ours(what):
            self.remove(what)
            return self.shown("EXEC " + cmd)
        return None

    def shown(self, what: str, said: str = "") -> Result:
        """Tell what is done, as core does (at ``-vvv``); the result where nobody waits for one."""
        display.vvv(what, host=self._play_context.remote_addr)  # type: ignore[attr-defined]
        return 0, said.encode(), b""

    def home(self, user: str) -> str:
        """The home directory of a user there."""
        key = self.way().key, user
        if key not in self.homes:
            self.homes[key] = self.hosts("home", self.way(), None, user)
        return self.homes[key]

    def remove(self, path: str) -> None:
        """Have a folder of ours removed, with the next request to that host, or at the end of the task."""
        self.made.discard(path.rstrip("/"))
        steps, self.later = self.later, []
        tried, self.tried = self.tried, False
        if tried:
            steps = []  # they were sent, and nobody knows what came of that
        elif any(step[0] == "mkdtemp" and step[2] == path.rstrip("/") for step in steps):
            return  # it was never made
        link = self.way()
        _removals.setdefault(link.key, (link, []))[1].extend(plain([*steps, ["remove", None, path]]))

    def close(self) -> None:
        """See core: the task has ended."""
        while _removals:
            _, (link, steps) = _removals.popitem()
            try:
                self.hosts("later", link, steps)
            except (contextree.ContextreeError, Stock) as why:
                display.vvv("contextree: temporary files could not be removed: %s" % why)
        super().close()  # type: ignore[misc]

    def ours(self, path: str) -> bool:
        """Whether a path is in a folder that we have made."""
        return any(path.rstrip("/") == made or path.startswith(made + "/") for made in self.made)

    def act(self, cmd: str, in_data: bytes | None, sudoable: bool, terminal: bool) -> Result:
        """Do what core wants of a host; raises Stock, ConnectError, ContextDied."""
        self.shown("EXEC " + cmd)
        text, way = self.meant(cmd, sudoable)
        try:
            return self.act_as(way, cmd, text, in_data, terminal)
        except become.Refused as why:
            refused = why
        return self.refused(refused, cmd, in_data, terminal)  # out here, what it raises has no cause

    def act_as(self, way: become.Way | None, cmd: str, text: str, in_data: bytes | None, terminal: bool) -> Result:
        """The same, in an account; raises Refused, too."""
        if way is not None:
            self.tried_ahead(way)
        kind, what = self.notes.meaning.get(text, ("", None))
        if kind == "python" and in_data:
            words, env = what
            found = payload.take_apart(in_data)
            if found is not None:
                env = {**(self.shell_variables() if way is None else self.variables(way, text)), **env}
                task = dict(found.task, python=words, env=env, cwd=self.cwd, umask=None)
                answer = self.send(["module", way, found.digest, None, task], found)
                if answer is not None:
                    return answer
        env = self.terminal_environment(terminal)
        if way is None:
            step: list[Any] = ["command", None, self.login_argv(cmd)]
        else:
            env = {**(env or {}), **self.variables(way, text)}
            step = ["command", way, [self._shell.executable, "-c", text]]
        answer = self.send([*step, in_data, terminal, self.cwd, env])
        if answer is None:
            raise Stock("the interpreter cannot be had by our link")
        return answer

    def terminal_environment(self, terminal: bool) -> dict[str, str] | None:
        """What ssh tells the other end of our terminal."""
        return {"TERM": os.environ["TERM"]} if terminal and os.environ.get("TERM") else None

    def send(self, step: list[Any], module: payload.Payload | None = None) -> Any:
        """Send a step and those that wait; its result, or None where it has to be done in another way."""
        link = self.way()
        removals = _removals[link.key][1] if link.key in _removals else []
        steps = [*removals, *plain([*self.later, step])]
        self.tried = True
        while True:
            try:
                answer = self.hosts("do", link, steps)
            except contextree.ConnectError:
                self.tried = False  # nothing was done
                raise
            if answer[0] == "want" and module is not None:
                self.hosts("archive", answer[1], module.zip_data())
            elif answer[0] == "failed" and steps[answer[1]][0] == "put":
                step_failed, steps = steps[answer[1]], steps[answer[1] + 1:]
                self.later = steps[:-1]
                self.put_by_stock(*step_failed[2:])
            else:
                break
        _removals.pop(link.key, None)
        self.later, self.tried = [], False  # not before: where the link broke, core tries again
        if answer[0] == "done":
            return answer[1]
        if answer[0] == "refused":
            self.hosts("fell_back", "become: %s" % answer[2])
            raise become.Refused(step[1], *answer[2:])
        if answer[0] == "failed":
            failed(steps[answer[1]], *answer[2:])
        display.vvv("contextree: %s" % (answer[2:],))
        self.hosts("fell_back", " ".join(map(str, answer[:1] + answer[2:4])))
        return None

    def fall_back(self, why: object) -> None:
        """Leave the next command to core: what waits is done by core as well, before. Raises what core would have."""
        if self.main_pid not in (os.getpid(), os.getppid()):
            raise AnsibleConnectionFailure("the playbook has ended")
        display.vvv("contextree: left to core's own connection: %s" % why)
        with contextlib.suppress(contextree.ContextreeError, Stock):
            self.hosts("fell_back", str(why))
        steps, self.later, self.tried = self.later, [], False
        for step in steps:
            if step[0] == "put":
                self.put_by_stock(*step[2:])
            else:
                if step[0] == "mkdtemp":
                    self.made.discard(step[2])  # core makes it, and so is to remove it
                shell = shlex.join([C.DEFAULT_EXECUTABLE or "/bin/sh", "-c", step[4]])
                status, out, err = super().exec_command(shell, None, False)  # type: ignore[misc]
                if status:
                    failed(step, status, out, err)

    def put_by_stock(self, target: str, mode: int, data: bytes) -> None:
        """Have core put a file whose content we have; where it fails as well, it names the file as if it was there."""
        source = self.sources.get(target, "")
        made = not os.path.exists(source)
        if made:
            source = source or os.path.join(C.DEFAULT_LOCAL_TMP, os.path.basename(target))
            with os.fdopen(os.open(source, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(data)
        try:
            super().put_file(source, target)  # type: ignore[misc]
        finally:
            if made:
                os.unlink(source)

    # -- files

    def put_file(self, in_path: str, out_path: str) -> Any:
        """See core."""
        try:
            source, target = self.absolute(in_path), self.absolute(out_path)
            if self.ours(target):
                return self.put(source, target)
            self.settle()
        except (Stock, contextree.ContextreeError, OSError) as why:
            self.fall_back(why)
        return super().put_file(in_path, out_path)  # type: ignore[misc]

    def put(self, source: str, target: str) -> Result:
        """Put a file into a folder that we have made."""
        if not os.path.exists(source):
            raise AnsibleFileNotFound("file or module does not exist: %s" % source)
        status = os.stat(source)
        mode = status.st_mode & 0o777 if self.put_mode is None else self.put_mode
        if status.st_size <= SMALL:
            with open(source, "rb") as file:
                self.later.append(["put", None, target, mode, file.read()])
            self.sources[str.__str__(target)] = source
        else:
            self.settle()
            self.hosts("put", self.way(), *plain([source, target]), mode)
        return self.shown("PUT %s TO %s" % (source, target))

    def fetch_file(self, in_path: str, out_path: str) -> Any:
        """See core."""
        try:
            found = self.send(["read", None, in_path, SMALL]) if in_path.startswith("/") else None
            if found is not None:
                return self.get(in_path, out_path, *found)
            self.settle()
        except (Stock, contextree.ContextreeError, OSError) as why:
            self.fall_back(why)
        return super().fetch_file(in_path, out_path)  # type: ignore[misc]

    def get(self, source: str, target: str, mode: int, data: bytes | None) -> Result:
        """Have a file that is there. As by sftp, it gets the mode that it has there, less the umask."""
        mode = mode & 0o777 | 0o200
        if data is None:
            umask = os.umask(0)
            os.umask(umask)
            self.hosts("get", self.way(), *plain([source, self.absolute(target)]), mode & ~umask)
        else:
            with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
                file.write(data)
        return self.shown("FETCH %s TO %s" % (source, target))

    def absolute(self, path: str) -> str:
        """A path, with a relative one being where core means it."""
        return path if path.startswith("/") else os.path.join(
            os.fsdecode(self.cwd or os.getcwd()), os.path.expanduser(path))

    def settle(self) -> None:
        """Do what waits, now."""
        if self.later:
            self.send(["home", None, ""])


def interpreter(variables: dict[str, Any]) -> str | None:
    """The path of the Python that variables say that modules want, if they do."""
    delegated = list((variables.get("ansible_delegated_vars") or {}).values())
    if len(delegated) == 1:
        variables = delegated[0]
    found = variables.get("ansible_python_interpreter")  # not one that was discovered: any link would find it
    return str.__str__(found) if isinstance(found, str) and found.startswith("/") else None


def plain(value: Any) -> Any:
    """The same without what ansible-core 2.19 adds to strings (where they come from, and the like)."""
    if isinstance(value, become.Way):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, dict):
        return {plain(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value


def failed(step: list[Any], status: int, out: bytes, err: bytes) -> None:
    """Raise what core says where a step failed that it did not wait for."""
    stdout, stderr = out.decode(errors="replace"), err.decode(errors="replace")
    if step[0] == "mkdtemp":
        if "No space left on device" in stderr:
            text = stderr
        else:
            text = ("Failed to create temporary directory. In some cases, you may have been able to authenticate and "
                    "did not have permissions on the target directory. Consider changing the remote tmp path in "
                    'ansible.cfg to a path rooted in "/tmp", for more error information use -vvv. '
                    "Failed command was: %s, exited with result %d" % (step[4], status))
        if stdout:
            text += ", stdout output: " + stdout
        if display.verbosity > 3 and stderr:
            text += ", stderr output: " + stderr
        raise AnsibleConnectionFailure(text)
    if step[0] == "add_mode":
        raise AnsibleError("Failed to set execute bit on remote files (rc: %d, err: %s)" % (status, stderr))
    raise AnsibleError("failed to transfer file to %s:\n%s\n%s" % (shlex.quote(step[2]), stdout, stderr))
