"""Runs in an environment with ansible-core: what core makes of fields, templates and modules, with what we remember
and without; prints what differs, and how often core itself had to work.

    python -m tests.ansible.remembered_side
"""

import contextlib
import json

from ansible.parsing.dataloader import DataLoader
from ansible.playbook.handler import Handler
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible.plugins import loader
from ansible.plugins.action import modify_module
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar
from jinja2.environment import Environment

VALUES = [None, True, False, 0, 7, 1.5, "", "plain", "yes", "{{ name }}", "{{ number }}", "a {{ name }}",
          "{% if 1 %}x{% endif %}", "{# nothing #}", "#jinja2: trim_blocks: False\nx", "# no header", "{{ omit }}",
          "{{ missing }}", [], ["{{ name }}"], {}, {"a": "{{ number }}"}, b"bytes"]
try:
    from ansible._internal._templating import _utils
    OMITTED = _utils.Omit
except ImportError:
    OMITTED = "__omit_place_holder__"
VARIABLES = {"name": "value", "number": 3}


def tagged():
    """The same values as from a playbook, where core has such (2.19)."""
    try:
        from ansible._internal._datatag._tags import Origin, TrustedAsTemplate
        from ansible.module_utils._internal._datatag._tags import Deprecated
    except ImportError:
        return []
    trusted = [TrustedAsTemplate().tag(Origin(path="/a", line_num=1).tag(value)) for value in VALUES
               if type(value) in (str, int, float, list, dict)]
    return [*trusted, Deprecated(msg="old", version="9.9").tag("plain"), Origin(path="/b").tag("untrusted {{ name }}")]


def tags(value):
    """What core has noted of a value."""
    return sorted(map(repr, (getattr(value, "_ansible_tags_mapping", None) or {}).values()))


def deep(value):
    """A value with its types and tags."""
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, tags(value), [deep(each) for each in value]]
    if isinstance(value, dict):
        return [type(value).__name__, tags(value), [[deep(key), deep(each)] for key, each in value.items()]]
    plain = isinstance(value, (str, int, float, bytes, type, type(None)))
    return [type(value).__name__, tags(value), repr(value) if plain else ""]


def engine(variables):
    """What core templates with."""
    templar = Templar(DataLoader(), {**variables, "omit": OMITTED})
    return getattr(templar, "_engine", templar)


def fields():
    """What becomes of every field with every value."""
    found = {}
    for kind in Task, Handler, PlayContext:
        for name in kind().fattributes:
            for number, value in enumerate(VALUES + tagged()):
                for squashed in False, True:
                    thing = kind()
                    thing._squashed = squashed
                    setattr(thing, "_" + name, value)
                    found["%s.%s %d %s" % (kind.__name__, name, number, squashed)] = validated(thing, name)
    return found


def validated(thing, name):
    """What becomes of a field, and of all others."""
    try:
        thing.post_validate(engine(VARIABLES))
    except Exception as error:
        return type(error).__name__, str(error)[:300]
    return deep(getattr(thing, name)), {each: deep(thing.__dict__.get("_" + each)) for each in thing.fattributes}


def templates():
    """Texts, each twice; and how many were compiled."""
    compiled = []
    generate = Environment._generate

    def counted(self, *args, **kwargs):
        compiled.append(1)
        return generate(self, *args, **kwargs)

    Environment._generate = counted
    try:
        found = []
        for text in [value for value in VALUES + tagged() if isinstance(value, str)] * 2:
            try:
                found.append(deep(engine(VARIABLES).template(text)))
            except Exception as error:
                found.append((type(error).__name__, str(error)[:300]))
    finally:
        Environment._generate = generate
    return found, len(compiled)


def modules():
    """The text of a module with several arguments, but for its date."""
    path = loader.module_loader.find_plugin("ansible.builtin.stat")
    found = []
    for arguments in {"path": "/a"}, {"path": "/b'\n\"", "follow": True}, {"path": "/a"}:
        built = modify_module(
            module_name="ansible.legacy.stat", module_path=path, module_args=arguments,
            templar=Templar(DataLoader(), {}), module_compression="ZIP_DEFLATED",
            task_vars={"ansible_python_interpreter": "/usr/bin/python3"})
        data = getattr(built, "b_module_data", None) or built[0]
        found.append([line for line in data.decode().split("\n") if "date_time" not in line])
    return found


def everything():
    """All of it."""
    return {"fields": fields(), "templates": templates(), "modules": modules()}


def main():
    """Without, with, and without again."""
    from ansible_collections.contextree.fast.controller import archives, remember

    stock = everything()
    with contextlib.ExitStack() as undo:
        undo.enter_context(remember.remembered())
        undo.enter_context(archives.shared())
        ours = everything()
    again = everything()
    print(json.dumps({
        "fields": len(stock["fields"]),
        "differ": [(key, value, ours["fields"][key]) for key, value in stock["fields"].items()
                   if value != ours["fields"][key]],
        "templates": stock["templates"][0] == ours["templates"][0],
        "compiled": [stock["templates"][1], ours["templates"][1]],
        "modules": stock["modules"] == ours["modules"],
        "undone": again == stock}))


if __name__ == "__main__":
    init_plugin_loader([])
    main()
