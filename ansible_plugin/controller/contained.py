"""Connections of collections that run a program for each command: ``docker exec``, ``kubectl exec``, ``chroot`` and their
like. Ours have one such program running, whose input and output are the link.

What they run is asked of the collection's own class: its ``exec_command`` is called with a text of ours, with a
``subprocess`` in which starting a program tells us its words instead. So each option means what it means there, in every
version of the collection. Whatever the link cannot do, and everything while there is no link (no Python in the container,
no shell, a container that does not run, an engine that does not answer) is left to that class, which says what it says.
"""

import contextlib
import functools
import hashlib
import importlib
import os
import re
import shlex
import subprocess
import sys
import threading
import types
from typing import Any

import contextree
from ansible.errors import AnsibleError
from ansible.plugins.connection import ConnectionBase
from ansible.plugins.loader import connection_loader
from contextree.connect import discover
from contextree.connect.plan import PYTHON, PYTHON_QUOTED, Plan, safe_name  # noqa: F401  for plugins

from . import fast
from .hosts import Link

MARK = "/bin/sh -c 'exit 0'"  # runs nothing, should it ever be run
KILLED = 137  # what such a program ends with where the container is gone

_asking = threading.local()


class Asked(BaseException):
    """What would have been run. Not an Exception: what goes wrong in between is handled there, this is for us."""

    def __init__(self, words: list[str], text: bool, env: dict[str, str] | None) -> None:
        super().__init__(words)
        self.words = words
        self.text = text  # it was a line for a shell
        self.env = env


class Way:
    """How a class runs commands: the words before each, and what it makes of the command itself."""

    def __init__(self, asked: Asked) -> None:
        words, split = asked.words, shlex.split(MARK)
        self.env = asked.env
        self.shell: list[str] | None = None  # words of a shell before the text of the command; None: its own words
        self.before = ""  # what stands before the text of a command
        if words[-1].endswith(MARK) and words[-2:-1] == ["-c"]:
            self.words, self.shell, self.before = words[:-3], words[-3:-1], words[-1].removesuffix(MARK)
        elif words[-len(split):] == split:
            self.words = words[:-len(split)]
        else:
            raise fast.Stock("what is run is not known: %s" % words[:1])

    def argv(self, cmd: str, quoted: bool) -> list[str]:
        """The words of a command, there. Raises Stock."""
        if self.shell is not None:
            return [*self.shell, self.before + cmd]
        if not quoted:  # the program itself says what is wrong with words that are none of a shell's
            raise fast.Stock("a command without a shell")
        return shlex.split(cmd)

    def within(self) -> list[str]:
        """Words that start what follows them as a command would be started, with the environment of one."""
        return [*self.words, *self.shell, self.before + 'exec "$0" "$@"'] if self.shell is not None else self.words


class Subprocess:
    """As the module, except that what is started to run MARK is told instead, to the thread that asks."""

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)

    @staticmethod
    def Popen(args: Any, **options: Any) -> Any:  # noqa: N802  its name there
        """See subprocess."""
        if getattr(_asking, "on", False):
            text = isinstance(args, (str, bytes))
            words = shlex.split(os.fsdecode(args)) if text else [os.fsdecode(each) for each in args]
            if any(MARK in word for word in words) or words[-3:] == shlex.split(MARK):
                raise Asked(words, text, options.get("env"))
        return subprocess.Popen(args, **options)


@functools.cache
def collection(name: str) -> Any:
    """The class of a connection plugin of a collection, with what can be asked. AnsibleError where there is none."""
    # not by the loader's own attribute: our strategies have put a redirection there
    cls = type(connection_loader).get_with_context(connection_loader, name, class_only=True).object
    if cls is None:
        raise AnsibleError("the connection plugin '%s' was not found" % name)
    ours = Subprocess()
    methods: dict[str, Any] = {}
    for base in cls.__mro__:
        if not base.__module__.startswith("ansible_collections."):
            continue
        module = vars(sys.modules[base.__module__])
        known = {key: each for key, each in (("subprocess", ours), ("Popen", ours.Popen)) if key in module}
        for key, method in vars(base).items():
            if isinstance(method, types.FunctionType) and method.__globals__ is module and known:
                methods.setdefault(key, _with_globals(method, {**module, **known}))
    return type("Connection", (cls,), {**methods, "__module__": cls.__module__, "__doc__": cls.__doc__})


def _with_globals(function: Any, names: dict[str, Any]) -> Any:
    """The same function where some global names mean something else."""
    made = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    made.__kwdefaults__ = function.__kwdefaults__
    return functools.update_wrapper(made, function)


def documentation(name: str) -> str:
    """The documentation of a connection plugin of a collection: its options are ours."""
    text = importlib.import_module(collection(name).__module__).DOCUMENTATION
    short = name.rpartition(".")[2]
    return re.sub(r"(?m)^(\s*)name: %s$" % re.escape(short), r"\1name: contextree.fast.%s" % short, text, count=1)


class Contained(fast.Fast):
    """Mixed into a class that ``collection`` has given, before it."""

    connect_is_dear = True  # its ``_connect`` runs programs, and is not needed to know what exec_command runs
    put_mode: int | None = None  # of files that are put there, less the umask; None: the mode that they have here

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._way: Way | None = None
        self._there: bool | None = None  # whether there is a link
        self._tried = False
        super().__init__(*args, **kwargs)

    # -- what a plugin may say otherwise

    def entrance(self, way: Way) -> list[str]:
        """The words that start an interpreter there."""
        return [*way.within(), PYTHON]

    def refuse(self) -> None:
        """Raise Stock where what is asked for cannot be a link."""
        if getattr(self._shell, "_IS_WINDOWS", False):  # type: ignore[attr-defined]
            raise fast.Stock("Windows")

    # -- the way in

    def ask(self) -> Way:
        """What the collection's class runs, by the options as they are now. Raises Stock, and what that class raises."""
        if self._way is None:
            self.refuse()
            _asking.on = True
            try:
                super().exec_command(MARK, in_data=None, sudoable=False)  # type: ignore[misc]
            except Asked as asked:
                self._way = Way(asked)
            except AnsibleError as error:  # it is raised again where it is run
                raise fast.Stock(str(error)) from None
            finally:
                _asking.on = False
            if self._way is None:
                raise fast.Stock("%s runs no program" % self.transport)  # type: ignore[attr-defined]
        return self._way

    def _connect(self) -> Any:
        """See core."""
        if getattr(_asking, "on", False) and self.connect_is_dear:
            return self
        return super()._connect()  # type: ignore[misc]

    def link(self) -> Link:
        """See Fast."""
        way = self.ask()
        kind = self.transport.rpartition(".")[2]  # type: ignore[attr-defined]
        env = None
        if way.env is not None:
            env = {name: way.env.get(name) for name in {*way.env, *os.environ}
                   if way.env.get(name) != os.environ.get(name)}
        words = self.entrance(way)
        address = re.sub(r"[^\w.@:-]", "_", str(self._play_context.remote_addr or ""))  # type: ignore[attr-defined]
        python = discover.beginning_with(self.interpreter) if self.interpreter else discover.WORDS
        plan = Plan(words, safe_name("%s.%s" % (kind, address)), kind, python=python, env=env)
        text = repr((words, self.interpreter, sorted(env.items()) if env else None))
        return Link(kind + "." + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(), plan)

    def login_argv(self, cmd: str) -> list[str | None]:
        """See Fast."""
        return list(self.ask().argv(cmd, self.notes.unwrapped(cmd)[0] is not None))

    def set_options(self, *args: Any, **kwargs: Any) -> None:
        """See core."""
        super().set_options(*args, **kwargs)
        self._way = None
        self._there = None
        self._tried = False

    def there(self, again: bool = False) -> bool:
        """Whether there is a link. ``again``: try even where the last one who tried had none, once for this task."""
        if self._there is None or (again and not self._there and not self._tried):
            self._tried = self._tried or again
            try:
                why = self.hosts("reach", self.way(), again)
            except fast.Stock as stock:
                why = str(stock)
            if why is not None:
                fast.display.vvv("contextree: %s" % why)
                self.hosts("fell_back", why.partition("\n")[0][:200])
            self._there = why is None
        return self._there

    # -- core's methods

    @property
    def has_pipelining(self) -> bool:
        """Whether modules go through stdin: where there is a link, else where the collection's class can do it."""
        return self.there(True) or super().has_pipelining  # type: ignore[misc]

    @property
    def always_pipeline_modules(self) -> bool:
        """See core: not even asynchronous ones."""
        return False

    def get_option(self, option: str, *args: Any, **kwargs: Any) -> Any:
        """See core. Before 2.19, it asks for this one."""
        if option == "pipelining" and self.there(True):
            return True
        return super().get_option(option, *args, **kwargs)  # type: ignore[misc]

    def is_pipelining_enabled(self, wrap_async: bool = False) -> bool:
        """See core."""
        if self.there(True):
            return super().is_pipelining_enabled(wrap_async)
        return ConnectionBase.is_pipelining_enabled(self, wrap_async)  # type: ignore[arg-type]

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> Any:
        """See core."""
        try:
            if self.there():
                answer = self.at_once(cmd, sudoable)
                return answer if answer is not None else self.act(cmd, in_data, sudoable, False)
        except fast.Stock as why:
            self.hosts("fell_back", str(why))
            self.settle_or_not()
        except contextree.ContextDied:
            return KILLED, b"", b""
        except contextree.ConnectError as error:
            self._there = False
            self.hosts("fell_back", str(error).partition("\n")[0])
        return super().exec_command(cmd, in_data=in_data, sudoable=sudoable)  # type: ignore[misc]

    def settle_or_not(self) -> None:
        """Do what waits, if that can be done."""
        with contextlib.suppress(fast.Stock, contextree.ContextreeError):
            self.settle()

    def fetch_file(self, in_path: str, out_path: str) -> Any:
        """See core. It is the collection's: who owns the file here, and its mode, differ between them."""
        self.settle_or_not()
        return super(fast.Fast, self).fetch_file(in_path, out_path)  # type: ignore[misc]
