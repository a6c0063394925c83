"""The default callback, which also writes down each call that core makes of it, with what it is given."""

import functools
import json
import os

from ansible.plugins.callback.default import CallbackModule as Default

DOCUMENTATION = """
name: own_trace
type: stdout
short_description: the default one, which writes down its calls to $CTXT_TRACE
description: See there.
extends_documentation_fragment: [default_callback, result_format_callback]
"""
SHOWN = ("name", "action", "uuid", "loop", "delegate_to", "ignore_errors", "register", "args", "vars", "tags", "when",
         "no_log", "become", "changed_when", "until", "retries")


class CallbackModule(Default):
    """See there."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "own_trace"

    def __init__(self):
        super().__init__()
        self.numbers = {}
        self.file = open(os.environ["CTXT_TRACE"], "a")

    def number(self, uuid):
        """The same one for the same task."""
        return self.numbers.setdefault(str(uuid), len(self.numbers))

    def tell(self, thing):
        """What there is to see of an argument."""
        kind = type(thing).__name__
        if hasattr(thing, "_task_fields"):
            fields = thing._task_fields
            # before 2.19 core gives all of a result to callbacks, and after it a copy for each
            return [kind, thing._host.get_name(), self.number(thing._task._uuid), type(thing._task).__name__,
                    sorted(fields), {name: repr(fields[name]) for name in SHOWN if name in fields and name != "uuid"},
                    json.loads(json.dumps(thing._result, default=repr))]
        if hasattr(thing, "_uuid"):
            return [kind, self.number(thing._uuid), str(thing.get_name())]
        if kind in ("str", "int", "bool", "NoneType"):
            return thing
        return [kind]

    def record(self, name, args, kwargs):
        """Write down a call."""
        told = [name, [self.tell(each) for each in args], {key: self.tell(each) for key, each in kwargs.items()}]
        self.file.write(json.dumps(told) + "\n")
        self.file.flush()


def _traced(name):
    method = getattr(Default, name)

    @functools.wraps(method)
    def traced(self, *args, **kwargs):
        self.record(name, args, kwargs)
        return method(self, *args, **kwargs)

    return traced


for each in dir(Default):
    if each.startswith("v2_") and each != "v2_on_any":
        setattr(CallbackModule, each, _traced(each))
