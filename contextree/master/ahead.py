"""Which modules of contextree itself a context needs to start a child by some plan: they are sent ahead of the request.

Asked for one by one they cost a round trip each, 36 of them for the first child of a context. They are found by the
import statements at the left margin of their sources: in this package those, and no others, are executed when a module
is imported. What the way to a child imports within functions is in ``roots``. A test compares with what a context asks
for.
"""

import functools
import importlib.util
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextree.connect.plan import Plan

_IMPORT = re.compile(r"^(?:from (contextree[\w.]*) import (\([^)]*\)|[^(\n]*)|import (contextree[\w.]*))", re.MULTILINE)
_NAME = re.compile(r"(\w+)(?: as \w+)?(?:,|$)", re.MULTILINE)
_COMMENT = re.compile("#.*")
LATER = {"contextree.parent.program": ("contextree.parent.census", "contextree.parent.watchman")}  # in functions


def names(plan: "Plan | None", start: str = "") -> frozenset[str]:
    """The modules that are needed to carry ``plan`` out, without those of the bundle; for None: to serve an ancestor,
    by what is in the module ``start`` where that is given. Any thread."""
    first = (start, "contextree.parent.main_thread", *LATER.get(start, ())) if start else roots(plan)
    return frozenset().union(*(_closure(root) for root in first))


def roots(plan: "Plan | None") -> Iterator[str]:
    """What is imported to begin with: the rest is imported by that."""
    yield "contextree.parent.control"
    yield "contextree.parent.main_thread"
    if plan is None:
        return
    yield "contextree.connect.plan"
    things: list[Any] = [plan.classify, plan.dialogue and type(plan.dialogue)]
    for thing in things:
        if thing is not None and str(thing.__module__).startswith("contextree."):
            yield thing.__module__
    for wanted, module in ((plan.method == "fork", "fork"), (plan.method == "job", "jobs"),
                           (plan.tty or plan.handover, "tty"), (plan.silence, "linkwatch"),
                           (plan.heartbeat or plan.remote, "heartbeat"), (plan.before or plan.after, "steps"),
                           (plan.sockets, "private")):
        if wanted:
            yield "contextree.parent." + module


@functools.cache
def _closure(root: str) -> frozenset[str]:
    """``root``, its packages, and all of ours that its import imports."""
    found: set[str] = set()
    left = [root]
    while left:
        name = left.pop()
        if name in found or name == "contextree" or (
                name.startswith("contextree.core") and name != "contextree.core.first_stage"):
            continue  # the bundle is there
        source = _source(name)
        if source is None:
            continue  # a name within a module
        found.add(name)
        left.append(name.rpartition(".")[0])
        for package, taken, module in _IMPORT.findall(source):
            left.append(package or module)
            left += [f"{package}.{each}" for each in _NAME.findall(_COMMENT.sub("", taken.strip("()")))]
    return frozenset(found)


def _source(name: str) -> str | None:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # what is before the last dot is no package
        return None
    if spec is None or spec.loader is None:
        return None
    return spec.loader.get_source(name)  # type: ignore[attr-defined, no-any-return]  # all that load Python have it
