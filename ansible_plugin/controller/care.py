"""What a worker may do and still be fit for another task; ``Care`` sees to it, in the worker.

Core itself runs the same action many times in one process (loops, retries), so none of its own plugins minds having
run before. Of others nobody knows: a worker that has used one ends with that task, as in stock. So does one whose
process is not what it was: another directory, environment, umask, signal handler, thread, a task that ran out of
time, or too many tasks.
"""

import inspect
import io
import os
import signal
import sys
import threading
import time
from typing import Any

from ansible import constants as C  # noqa: N812  as everywhere in ansible
from ansible.plugins import loader

TASKS = 500  # that one worker does at most
SAFE = frozenset((
    "assemble", "assert", "command", "copy", "debug", "dnf", "fail", "fetch", "gather_facts", "include_vars", "normal",
    "package", "raw", "script", "service", "set_fact", "set_stats", "shell", "template", "unarchive", "uri",
    "validate_argument_spec", "wait_for_connection"))  # action plugins of core whose run leaves nothing in its process
CONNECTIONS = ("ansible.plugins.connection.ssh", "ansible.plugins.connection.local")
CORE = os.path.dirname(os.path.abspath(C.__file__)) + os.sep
OURS = "ansible_collections.contextree.fast."
PLUGINS = "ansible.plugins.connection.", "ansible_collections."  # the bases of a plugin that are plugins themselves
KINDS = ("action", "become", "connection", "lookup", "shell", "vars")  # of plugins; filters and tests see _note_jinja


def safe_action(name: str, collections: Any) -> bool:
    """Whether a task's action is one of core's that are known. In the main process."""
    if "{" in name or name.rpartition(".")[2].split("_")[0] in C.NETWORK_GROUP_MODULES:
        return False
    module = loader.module_loader.find_plugin_with_context(name, collection_list=collections)
    if module.resolved and module.action_plugin:
        name = module.action_plugin
    plugin = loader.action_loader.get(name, class_only=True, collection_list=collections)
    if plugin is None:
        plugin = loader.action_loader.get("ansible.legacy.normal", class_only=True)
    return known("action", plugin.__module__)


def known(kind: str, module: str) -> bool:
    """Whether a plugin is one that leaves nothing behind, by the module that it is in."""
    if module.startswith(OURS):
        return True
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    if kind in ("filter", "test"):  # what jinja2 has of its own, or a plugin of the standard library, is no plugin's
        return not module.startswith(("ansible.", "ansible_collections.")) or file.startswith(CORE)
    if kind == "connection":
        return module in CONNECTIONS and file.startswith(CORE)
    return file.startswith(CORE) and (kind != "action" or module.rpartition(".")[2] in SAFE)


class Care:
    """Sees to it that a worker begins each task as if it were its first. In a worker, before its first task."""

    def __init__(self, files: Any) -> None:
        self.files, self.cached = files, dict(files._FILE_CACHE)
        self.streams = sys.stdout, sys.stderr
        self.foreign = False
        self.tasks = 0
        self.begun = time.monotonic()
        self.state = self._state()
        for kind in KINDS:
            self._note(kind, getattr(loader, kind + "_loader"))
        self._note_jinja()

    def _note(self, kind: str, plugins: Any) -> None:
        """Look at each plugin that is had from a loader."""
        load = plugins.get_with_context

        def noted(*args: Any, **kwargs: Any) -> Any:
            found = load(*args, **kwargs)
            plugin = found.object
            if plugin is not None:
                cls = plugin if isinstance(plugin, type) else type(plugin)
                # of ours what it is mixed into counts: a worker that is forked imports it, and may be warned
                bases = [each.__module__ for each in cls.__mro__[1:] if each.__module__.startswith(PLUGINS)]
                self.foreign = self.foreign or not all(known(kind, each) for each in (cls.__module__, *bases))
            return found

        plugins.get_with_context = noted

    def _note_jinja(self) -> None:
        """Look at each filter and test that a template uses."""
        try:
            from ansible._internal._templating._jinja_plugins import JinjaPluginIntercept
        except ImportError:  # ansible-core before 2.19
            from ansible.template import JinjaPluginIntercept
        plain = JinjaPluginIntercept.__getitem__
        looked: dict[Any, bool] = {}

        def noted(plugins: Any, name: str) -> Any:
            function = plain(plugins, name)
            if (id(plugins), name) not in looked:
                module = getattr(inspect.unwrap(function), "__module__", None) or ""
                looked[id(plugins), name] = known("filter", module)
            if not looked[id(plugins), name]:
                self.foreign = True
            return function

        JinjaPluginIntercept.__getitem__ = noted

    def _state(self) -> Any:
        """What of a process a task might change."""
        mask = os.umask(0o077)
        os.umask(mask)
        return (os.getcwd(), dict(os.environ), mask, list(sys.path), signal.getitimer(signal.ITIMER_REAL)[0],
                signal.getsignal(signal.SIGALRM), signal.getsignal(signal.SIGCHLD))

    def unspoilt(self, task: Any) -> bool:
        """Whether the worker may do another task after this one."""
        self.tasks += 1
        if task.timeout and time.monotonic() - self.begun >= task.timeout:
            return False  # it may have been torn out of anything
        if self.foreign or self.tasks >= TASKS or self._state() != self.state:
            return False
        return all(thread is threading.main_thread() or thread.name.startswith("contextree")
                   for thread in threading.enumerate())

    def reset(self) -> None:
        """Before a task."""
        self.begun = time.monotonic()
        self.files._FILE_CACHE.clear()
        self.files._FILE_CACHE.update(self.cached)
        self.files._tempfiles = set()
        if isinstance(sys.stdout, io.StringIO):
            sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
        else:
            sys.stdout, sys.stderr = self.streams
