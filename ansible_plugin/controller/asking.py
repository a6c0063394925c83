"""Connection plugins of collections, and what they would run.

Most of them run a program for each command: ``docker exec``, ``chroot`` and their like. What they would run is asked
of their own classes: ``exec_command`` is called with a text of ours, in a ``subprocess`` where starting a program tells
its words instead. So each option means what it means there, in every version of the collection.

This imports nothing of contextree, see ``ready``.
"""

import functools
import importlib
import os
import re
import shlex
import subprocess
import sys
import threading
import types
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.loader import connection_loader

MARK = "/bin/sh -c 'exit 0'"  # runs nothing, should it ever be run

_asking = threading.local()


class Asked(BaseException):
    """What would have been run. Not an Exception: what goes wrong in between is handled there, this is for us."""

    def __init__(self, words: list[str], env: dict[str, str] | None) -> None:
        super().__init__(words)
        self.words = words
        self.env = env


def asking() -> bool:
    """Whether this thread is in ``ask``."""
    return getattr(_asking, "on", False)


def ask(run: Any) -> Asked | None:
    """What ``run(MARK)``, a class's own ``exec_command``, would run; None: nothing. Raises what that raises."""
    _asking.on = True
    try:
        run(MARK, in_data=None, sudoable=False)
    except Asked as asked:
        return asked
    finally:
        _asking.on = False
    return None


def run_instead(run: Any, words: list[Any]) -> Any:
    """What ``run(MARK)``, a class's own ``exec_command``, makes of a program that is run here in place of its own."""
    _asking.instead = words
    try:
        return run(MARK, in_data=None, sudoable=True)
    finally:
        _asking.instead = None


class Subprocess:
    """As the module, except that what is started to run MARK is told instead, to the thread that asks."""

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)

    @staticmethod
    def Popen(args: Any, **options: Any) -> Any:  # noqa: N802  its name there
        """See subprocess."""
        instead = getattr(_asking, "instead", None)
        if asking() or instead:
            text = isinstance(args, (str, bytes))
            words = shlex.split(os.fsdecode(args)) if text else [os.fsdecode(each) for each in args]
            if any(MARK in word for word in words) or words[-3:] == shlex.split(MARK):
                if not instead:
                    raise Asked(words, options.get("env"))
                args, options = instead, {**options, "shell": False, "executable": None}
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
