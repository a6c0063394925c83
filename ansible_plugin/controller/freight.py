"""What the main process sends to a worker that stays: a task, its variables, and what has changed since its fork.

Values go by value: what the worker does to them ends with the task, as it does where a worker is forked for each. What
a run has but once (the play, its blocks and roles, the inventory) is not sent: the worker was forked from the main
process and so has its own of each. Such an *anchor* goes as a number. Anything that is neither is not sent at all:
``Unknown``.
"""

import datetime as dt
import io
import pickle
import types
from typing import Any

from ansible.playbook.loop_control import LoopControl

VALUES = (str, bytes, int, float, dict, list, tuple, set, frozenset, dt.date, dt.time, LoopControl,
          type, types.FunctionType, types.BuiltinFunctionType)  # the latter by their names
VALUE_MODULES = ("ansible._internal._datatag.", "ansible.module_utils._internal.", "ansible.module_utils.common.",
                 "ansible.parsing.vault", "ansible.parsing.yaml.", "ansible.utils.unsafe_proxy", "datetime")
ANCHOR_MODULES = ("ansible.playbook.", "ansible.inventory.", "ansible.parsing.dataloader", "ansible.vars.manager",
                  "ansible.vars.hostvars")

_anchors: list[Any] = []  # in the main process; a worker has those that were there when it was forked
_numbers: dict[int, int] = {}  # id -> place in _anchors, which keeps the object alive
_kinds: dict[type, bool] = {}  # by value or not


class Unknown(Exception):
    """This cannot be sent to a worker: one has to be forked for it."""


def anchor(thing: Any) -> None:
    """Have the workers that are forked from now on know an object. In the main process."""
    if id(thing) not in _numbers:
        _numbers[id(thing)] = len(_anchors)
        _anchors.append(thing)


def anchors() -> int:
    """How many there are."""
    return len(_anchors)


def forget() -> None:
    """Let go of all of them: the workers that know them are gone."""
    _anchors.clear()
    _numbers.clear()


def anchored(number: int) -> Any:
    """What a number stands for. In a worker, when it reads."""
    return _anchors[number]


def _by_value(kind: type) -> bool:
    """Whether objects of a class are sent as they are; raises Unknown where they cannot be sent at all."""
    if issubclass(kind, VALUES) or kind.__module__.startswith(VALUE_MODULES):
        return True
    if kind.__module__.startswith(ANCHOR_MODULES):
        return False
    raise Unknown("%s.%s" % (kind.__module__, kind.__name__))


class _Writer(pickle.Pickler):
    def __init__(self, file: Any, known: int) -> None:
        super().__init__(file, 5)
        self.known = known

    def reducer_override(self, thing: Any) -> Any:
        kind = type(thing)
        by_value = _kinds.get(kind)
        if by_value is None:
            by_value = _kinds[kind] = _by_value(kind)
        if by_value:
            return NotImplemented
        number = _numbers.get(id(thing), self.known)
        if number >= self.known:
            raise Unknown("a new %s" % kind.__name__)
        return anchored, (number,)


def pack(value: Any, known: int) -> bytes:
    """Bytes for a worker that knows the first ``known`` anchors; raises Unknown."""
    file = io.BytesIO()
    try:
        _Writer(file, known).dump(value)
    except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as error:
        raise Unknown(str(error)) from error
    return file.getvalue()


unpack = pickle.loads
