"""The options that a connection of ours has, kept for the next worker of the run.

Under core's own strategies each task has a worker of its own, which reads the documentation of its connection plugin
to learn its options: a quarter of what it takes to get a connection. So the first that has done that leaves them in the
run's own temporary folder, and core finds them there already in later ones.
"""

import contextlib
import os
import pickle
from typing import Any

from ansible import constants as C  # noqa: N812  as everywhere in ansible

from . import worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ansible.plugins.connection import ConnectionBase as Base
else:
    Base = object  # ConnectionBase comes in by core's connection

KIND = "connection"
_there: set[str] = set()  # plugins whose definitions are kept


def path_of(plugin: str) -> str:
    """Where those of a plugin are, which goes by the name of its module."""
    return os.path.join(C.DEFAULT_LOCAL_TMP, worker.OPTIONS + plugin.rpartition(".")[2])


def load(plugin: str) -> None:
    """Have core know the options of a plugin that is being imported, where an earlier worker has left them."""
    if C.config.has_configuration_definition(KIND, plugin):
        return
    with contextlib.suppress(Exception):  # none are there; whatever else it is: core reads the documentation
        with open(path_of(plugin), "rb") as file:
            found = pickle.load(file)
        C.config.initialize_plugin_configuration_definitions(KIND, plugin, found)
        _there.add(plugin)


def keep(plugin: str) -> None:
    """Leave them for later workers. Those of our strategies have them from the main process."""
    if plugin in _there or worker.stays():
        return
    _there.add(plugin)
    definitions = C.config.get_configuration_definitions(KIND, plugin)
    part = "%s.%d" % (path_of(plugin), os.getpid())
    with contextlib.suppress(Exception):  # no room; something in them that cannot be kept
        data = pickle.dumps(definitions, 5)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        os.rename(part, path_of(plugin))


class Defined(Base):
    """Mixed into the connection of a plugin."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith("ansible_collections."):  # core is about to have it
            load(cls.__module__)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        keep(type(self).__module__)
        super().__init__(*args, **kwargs)
