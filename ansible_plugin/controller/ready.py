"""Whether this collection can do its work here. Where it cannot, plays run as stock runs them, with one warning.

The collection may lie anywhere (in a wheel beside contextree, in a tarball that ansible-galaxy installed), beside any
contextree or none, and under an ansible-core that is newer than it. So the plugins import nothing of contextree and of
``controller`` themselves: they ask here for what they mix into core's classes. Nothing is judged by version numbers:
what we call has to be there (NEEDED), and our modules have to be importable.
"""

import functools
import importlib
import importlib.util
import os
import re
import sys
from typing import Any

# What is called, by the module that it is in. Of ansible-core: what is private, or has changed between its versions.
NEEDED = {
    "contextree": ("AuthenticationError", "CallCancelled", "CallTimeout", "ConnectError", "ContextDied", "RemoteError"),
    "contextree.connect.plan": ("Plan", "PYTHON_QUOTED"),
    "contextree.core.process": ("close", "own"),
    "contextree.parent.place": ("open_directory", "through"),
    "ansible.constants": ("DEFAULT_LOCAL_TMP",),
    "ansible.plugins.become": ("BecomeBase.build_become_command",),
    "ansible.plugins.connection": ("ConnectionBase.exec_command", "ConnectionBase.fetch_file",
                                   "ConnectionBase.put_file", "ConnectionBase.reset",
                                   "ConnectionBase.set_become_plugin"),
    "ansible.plugins.connection.ssh": ("Connection._build_command",),
    "ansible.plugins.loader": ("connection_loader.get_with_context",),
    "ansible.plugins.shell": ("ShellBase.build_module_command", "ShellBase.chmod", "ShellBase.env_prefix",
                              "ShellBase.exists", "ShellBase.expand_user", "ShellBase.mkdtemp",
                              "ShellBase.remove"),
    "ansible.plugins.strategy": ("StrategyBase.run",),
}
NEEDED_THERE = {  # in the multiplexer, which looks for itself: a tenth of a second of imports
    "contextree": ("Context.call", "Context.get", "Context.put", "Router", "current_call", "expose"),
    "contextree.parent.knock": ("peer", "same"),
    "contextree.parent.place": ("Place", "identity", "make_directory"),
}
_broken: dict[str, str] = {}  # our modules that could not be imported, and why


@functools.cache
def fault(there: bool = False) -> str | None:
    """Why nothing can be accelerated here, as the rest of a sentence; None where all is well. Of what was tried first.
    ``there``: in the multiplexer.

    Asks the modules of contextree and of ansible-core, and imports them for that. Raises nothing.
    """
    for module, names in (NEEDED_THERE if there else NEEDED).items():
        try:
            found = importlib.import_module(module)
        except Exception as error:  # whatever an import may raise
            return _missing(module, error)
        for name in names:
            try:
                functools.reduce(getattr, name.split("."), found)
            except AttributeError:
                return _lacks(module, name)
    return None


def mixin(module: str, name: str) -> type:
    """What a plugin mixes into core's class: class ``name`` of ``controller.<module>``, or one that only warns.

    Never raises: where we cannot work, tasks run as in stock.
    """
    why = fault()
    if why is None:
        try:
            found = getattr(importlib.import_module("%s.controller.%s" % (package(), module)), name)
            if isinstance(found, type):
                return found
            why = f"{module}.{name} is no class"
        except Exception as error:  # an ansible-core that our feature tests do not know
            why = f"{_core()} is not as expected: {_text(error)}"
    _broken[module] = why
    return type(name, (Stock,), {"why": why})


class Stock:
    """Mixed into a class of core in place of ours: says once why it is, and changes nothing."""

    why = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        from ansible.utils.display import Display

        super().__init__(*args, **kwargs)
        Display().warning(warning(self.why))  # which prints the same text once in a run, workers included


def module(name: str) -> Any:
    """``controller.<name>``, one without contextree: there is one of it for plugins and mixins alike."""
    return importlib.import_module("%s.controller.%s" % (package(), name))


def warning(why: str) -> str:
    """The one sentence."""
    return f"contextree.fast falls back to stock execution: {why}"


def broken() -> str | None:
    """Why one of our modules could not be imported, if that was so; as ``fault``."""
    return next(iter(_broken.values()), None)


def package() -> str:
    """The name under which the modules of this collection are imported, by Python's own machinery.

    Ansible's loader of collections keeps no byte code: under the collection's name all that we are would be compiled
    again in each process. And what targets get from us needs a name that nothing there has, where the package
    ``ansible`` may have all of ``ansible_collections`` for itself.
    """
    if PACKAGE not in sys.modules:
        folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        spec: Any = importlib.util.spec_from_file_location(PACKAGE, os.path.join(folder, "__init__.py"))
        sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    return PACKAGE


PACKAGE = "contextree_fast"


def version() -> str:
    """The version of this collection, from its metadata; "unknown" where that is gone."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for name, pattern in ("MANIFEST.json", r'"version": *"([^"]+)"'), ("galaxy.yml", r"(?m)^version: *([^\s#]+)"):
        try:
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                found = re.search(pattern, file.read())
        except OSError:
            continue
        if found:
            return found[1]
    return "unknown"


def _missing(module: str, error: Exception) -> str:
    if not module.startswith("contextree"):
        return f"{_core()} is not as expected: {_text(error)}"
    if isinstance(error, ModuleNotFoundError) and error.name == "contextree":
        return f"the Python package contextree is not installed for {sys.executable}, which runs ansible"
    return f"the Python package contextree cannot be imported by {sys.executable}, which runs ansible: {_text(error)}"


def _lacks(module: str, name: str) -> str:
    if not module.startswith("contextree"):
        return f"{_core()} is not as expected: {module} has no {name}"
    contextree = sys.modules["contextree"]
    folder = os.path.dirname(contextree.__file__ or "")
    theirs = getattr(contextree, "__version__", "an unknown one")
    return (f"the collection is of version {version()} and contextree, in {folder}, of {theirs}, "
            f"where {module} has no {name}")


def _core() -> str:
    from ansible.release import __version__

    return f"ansible-core {__version__}"


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
