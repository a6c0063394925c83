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
import types
from collections.abc import Callable, Iterator
from typing import Any

from ansible import constants as C  # noqa: N812  as everywhere in ansible
from ansible.plugins.loader import PluginLoader

from . import fields

MOST = 300  # of each kind that are remembered
LAST = "get_plugin_options_and_origins", "get_plugin_options"  # core's newer methods call the older, or the reverse
FOLDERS = "tmp", "temppath", "tmppath"  # types of options for which a folder is made
PLAIN = str, int, float, bool, type(None)  # nobody can change these; they may have tags of ansible-core 2.19


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """While this lasts, core remembers. Raises nothing of its own: what is not as expected is left alone."""
    with contextlib.ExitStack() as undo:
        for step in _options, _code, _templates, _plugins, fields.known:
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


#: What of a jinja2 environment is of no use until a template runs.
RUNS = ("globals", "filters", "tests", "loader", "cache", "bytecode_cache", "linked_to", "policies", "extensions",
        "binop_table", "unop_table")


def _templates(undo: contextlib.ExitStack) -> None:
    """What becomes of a template's text before it runs, since ansible-core 2.19: until then jinja2 works out constants
    meanwhile. Not of one with filters and tests, whose plugins are looked at."""
    from ansible._internal._templating import _jinja_bits as bits
    from jinja2.environment import TemplateExpression

    kind: Any = bits.AnsibleEnvironment
    plain, plain_expression = kind.compile, kind.compile_expression
    known: dict[Any, Any] = {}
    begun: list[Any] = []  # keys of expressions that are on their way to be compiled; None within that

    def settings(environment: Any, source: Any) -> Any:
        """A text and all that its compilation depends on; None: that cannot be told."""
        if environment.optimized or environment.extensions or environment._debuggable_template_source:
            return None
        context = bits._TemplateCompileContext.current(optional=True)
        parts = [type(environment), str.__str__(source), context and context.escape_backslashes,
                 bits._TemplateConfig.allow_embedded_templates]
        for name, value in vars(environment).items():
            if name not in RUNS:
                parts += name, value
        try:
            hash(whole := tuple(parts))
        except TypeError:
            return None
        return whole

    def compiled(self: Any, source: Any, name: Any = None, filename: Any = None, *more: Any, **options: Any) -> Any:
        expression = begun.pop() if begun else None
        key = None
        if not more and not options and name is None and filename is None:
            key = settings(self, source) if isinstance(source, str) else expression
        code = known.get(key) if key is not None else None
        if code is None:
            code = plain(self, source, name, filename, *more, **options)
            if key is not None and not _uses_plugins(code):
                keep(known, key, code)
        return code

    def compile_expression(self: Any, source: str, undefined_to_none: bool = True) -> Any:
        key = settings(self, source)
        key = key and ("an expression", *key)
        code = known.get(key) if key is not None else None
        if code is not None:
            template = self.template_class.from_code(self, code, self.make_globals(None), None)
            return TemplateExpression(template, undefined_to_none)
        begun.append(key)
        try:
            return plain_expression(self, source, undefined_to_none)
        finally:
            begun.clear()

    undo.callback(delattr, kind, "compile")
    kind.compile = compiled
    undo.callback(setattr, kind, "compile_expression", plain_expression)
    kind.compile_expression = compile_expression


def _uses_plugins(code: types.CodeType) -> bool:
    """Whether what jinja2 has made of a template has filters or tests in it."""
    return not {"filters", "tests"}.isdisjoint(code.co_names) or any(
        _uses_plugins(each) for each in code.co_consts if isinstance(each, types.CodeType))


# -- where plugins are

#: What changes in core's notes of a search when a plugin is simply found.
FOUND = {"resolved", "pending_redirect", "exit_reason", "action_plugin", "plugin_resolved_name",
         "plugin_resolved_path", "plugin_resolved_collection", "_python_module_name"}


def _plugins(undo: contextlib.ExitStack) -> None:
    """Where a plugin is that is called by its full name, as long as nothing changes in its folder."""
    plain: Any = PluginLoader._find_fq_plugin
    known: dict[Any, tuple[str, int, dict[str, Any]]] = {}

    def find(self: Any, fq_name: str, extension: Any, plugin_load_context: Any, *more: Any, **options: Any) -> Any:
        key = (self.type, self.subdir, str.__str__(fq_name), extension, more, *options.items(),
               getattr(plugin_load_context, "ignore_deprecated", None))
        if key in known:
            folder, changed, found = known[key]
            with contextlib.suppress(OSError):
                if os.stat(folder).st_mtime_ns == changed:
                    vars(plugin_load_context).update(found)
                    return plugin_load_context
        before = _notes(plugin_load_context)
        result = plain(self, fq_name, extension, plugin_load_context, *more, **options)
        after = _notes(plugin_load_context)
        found = {name: value for name, value in vars(plugin_load_context).items() if after[name] != before.get(name)}
        if result is plugin_load_context and result.resolved and FOUND.issuperset(found):
            found.update({name: getattr(result, name) for name in FOUND if hasattr(result, name)})
            folder = os.path.dirname(result.plugin_resolved_path)
            with contextlib.suppress(OSError):
                keep(known, key, (folder, os.stat(folder).st_mtime_ns, found))
        return result

    undo.callback(setattr, PluginLoader, "_find_fq_plugin", plain)
    PluginLoader._find_fq_plugin = find  # type: ignore[method-assign]


def _notes(context: Any) -> dict[str, Any]:
    """What core has noted of a search so far."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in vars(context).items()}


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
