"""What core works out again for each task and item, though nothing that it depends on has changed, is remembered.

Everything here is on while one of our strategies runs (``remembered``), in the main process and in the workers that it
forks, and goes by all that the result depends on: see docs/decisions/0036. What has effects beyond its result, or a
result that might be changed by who gets it, is not remembered.
"""

import contextlib
import copy
import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ansible import constants as C  # noqa: N812  as everywhere in ansible

MOST = 300  # of each kind that are remembered
LAST = "get_plugin_options_and_origins", "get_plugin_options"  # core's newer methods call the older, or the reverse
FOLDERS = "tmp", "temppath", "tmppath"  # types of options for which a folder is made
PLAIN = str, int, float, bool, type(None)  # nobody can change these; they may have tags of ansible-core 2.19


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """While this lasts, core remembers. Raises nothing of its own: what is not as expected is left alone."""
    with contextlib.ExitStack() as undo:
        for step in _options, _code:
            with contextlib.suppress(Exception):  # another core, another jinja2
                step(undo)
        yield


def keep(memory: dict[Any, Any], key: Any, value: Any) -> None:
    """Keep a value, and not too many of them."""
    if len(memory) >= MOST:
        memory.clear()
    memory[key] = value


# -- the options of a plugin


def _options(undo: contextlib.ExitStack) -> None:
    """The options of a connection or shell: fifty of them, each looked for in five places, for each task and item."""
    config: Any = C.config
    name = next(name for name in LAST if hasattr(config, name))
    undo.callback(delattr, config, name)
    setattr(config, name, Options(config, getattr(config, name)))


class Options:
    """Stands for the method of core's configuration that finds all options of a plugin."""

    def __init__(self, config: Any, find: Callable[..., Any]) -> None:
        self.config, self.find = config, find
        self.names: dict[tuple[str, str], tuple[Any, list[str]]] = {}  # of plugins -> definitions, and see ``_names``
        self.known: dict[Any, Any] = {}
        self.environment: Any = None  # of which these are

    def __call__(self, plugin_type: str, name: str, keys: Any = None, variables: Any = None, direct: Any = None,
                 **more: Any) -> Any:
        """See core: the options, or these and their origins."""
        key = None if direct or more else self._key(plugin_type, name, keys, variables)
        if key is None:
            return self.find(plugin_type, name, keys=keys, variables=variables, direct=direct, **more)
        found = self.known.get(key)
        if found is None:
            found = self.find(plugin_type, name, keys=keys, variables=variables, direct=direct)
            options = found[0] if isinstance(found, tuple) else found
            if self._has_to_say() or not all(map(_is_plain, options.values())):
                return found
            keep(self.known, key, found)
        return tuple(map(_copy, found)) if isinstance(found, tuple) else _copy(found)  # theirs to change

    def _has_to_say(self) -> bool:
        """Whether core is about to tell the user something: that a setting is deprecated, say."""
        return any(getattr(self.config, name, ()) for name in ("DEPRECATED", "WARNINGS", "_errors"))

    def _key(self, plugin_type: str, name: str, keys: Any, variables: Any) -> Any:
        """All that the options are made of, beside the configuration file and the command line of the run; None: that
        cannot be told."""
        definitions, names = self.names.get((plugin_type, name), (None, []))
        present = self.config.get_configuration_definitions(plugin_type, name)
        environment = os.environ._data  # type: ignore[attr-defined]  # to compare all of it takes a microsecond
        if definitions is not present or environment != self.environment:
            self.known.clear()
            self.environment = dict(environment)
            names = self._names(present)
            self.names[plugin_type, name] = present, names
        if not names or self._has_to_say():
            return None
        parts: list[Any] = [plugin_type, name, os.getcwd()]
        try:
            for each in names:
                if keys and each in keys:
                    parts += each, *_whole(keys[each])
            parts.append(None)
            for each in sorted(variables or ()):
                parts += str.__str__(each), *_whole(variables[each])
            hash(whole := tuple(parts))
        except TypeError:
            return None
        return whole

    @staticmethod
    def _names(definitions: Any) -> list[str]:
        """The keywords of tasks that have a meaning for options with these definitions; none where there is an option
        that has to be made anew each time."""
        names: set[str] = set()
        for option, definition in definitions.items():
            if definition.get("type") in FOLDERS:
                return []
            names |= {option, *(definition.get("aliases") or ())}
            names |= {entry["name"] for entry in definition.get("keyword") or ()}
        return sorted(names)


def _is_plain(value: Any) -> bool:
    """Whether a copy of a value has nothing in common with it."""
    return isinstance(value, PLAIN) or (isinstance(value, list) and all(isinstance(each, PLAIN) for each in value))


def _copy(options: dict[str, Any]) -> dict[str, Any]:
    """The same options."""
    return {name: copy.copy(value) if isinstance(value, list) else value for name, value in options.items()}


def _whole(value: Any) -> tuple[Any, ...]:
    """A value with all that tells it from an equal one: 1 is True, and strings of ansible-core 2.19 have tags. Raises
    TypeError where it may be changed."""
    kind = type(value)
    if not isinstance(value, PLAIN):
        if value:
            raise TypeError(type(value))
        value = None  # an empty list, say
    tags = getattr(value, "_ansible_tags_mapping", None)
    return (kind, value, *(tags.values() if tags else ()))


# -- templates


def _code(undo: contextlib.ExitStack) -> None:
    """What Python makes of the text that jinja2 has made of a template: the same for the same text."""
    from jinja2.environment import Environment

    plain: Any = Environment._compile
    known: dict[tuple[str, str], Any] = {}

    def compiled(self: Any, source: str, filename: str) -> Any:
        found = known.get((source, filename))
        if found is None:
            found = plain(self, source, filename)
            keep(known, (source, filename), found)
        return found

    undo.callback(setattr, Environment, "_compile", plain)
    Environment._compile = compiled  # type: ignore[method-assign]


# -- who calls


def frames() -> Callable[[], None]:
    """Have core look for its caller without reading the source of all that have called that, of which it wants the
    name of one file (2.21; 20 ms where it says that a strategy is not core's). What is returned undoes that."""
    try:
        stack: Any = importlib.import_module("ansible.module_utils._internal._stack")
        plain = stack._inspect
        stack._inspect = Frames()
    except Exception:  # another core
        return lambda: None
    return functools.partial(setattr, stack, "_inspect", plain)


class Frames:
    """As the module inspect."""

    def __getattr__(self, name: str) -> Any:
        return getattr(inspect, name)

    @staticmethod
    def stack() -> Iterator[inspect.FrameInfo]:
        """See there; one by one."""
        _skip_stackwalk = True  # as core marks a frame that is not the caller's
        frame: Any = sys._getframe(1)
        while frame is not None:
            info = inspect.getframeinfo(frame, 0)
            yield inspect.FrameInfo(frame, info.filename, info.lineno, info.function, None, None)
            frame = frame.f_back
