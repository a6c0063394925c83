"""``contextree demo``: a tree on this machine, calls in all of it, and what they take."""

import functools
import itertools
import os
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from dataclasses import dataclass
from typing import Any

import click

from contextree.cli import machine, screen
from contextree.cli.targets import Hosts, Reach, reach_options, sentence, version
from contextree.core.wire.errors import ContextreeError, UsageError
from contextree.master.router import Router
from contextree.parent.context import Context

CALLS = 100  # for a round trip
LIMIT = 5.0  # seconds that ssh to this machine may take, when nobody asked for it
BLOCK = 8 << 20  # bytes that are sent down


@dataclass
class Row:
    """One context of the demo, and what was measured."""

    how: str
    context: Context | None
    parent: "Row | None" = None
    first: float = 0.0  # seconds from the wish for it to its first result
    trip: float = 0.0  # of one call

    @property
    def name(self) -> str:
        """Its own part of the full name."""
        if self.context is None:
            return "master"
        above = self.parent.context if self.parent else None
        return self.context.name.removeprefix(f"{above.name}.") if above else self.context.name

    def cells(self) -> tuple[str, ...]:
        """What the table says of it, after the name."""
        if self.context is None:
            return str(os.getpid()), platform.python_version(), self.how, "", ""
        version = ".".join(map(str, self.context.facts["version"]))
        return str(self.context.pid), version, self.how, ms(self.first), us(self.trip)


class Demo:
    """The tree that is built, and what is said meanwhile."""

    def __init__(self, router: Router, reach: Reach) -> None:
        self.router = router
        self.reach = reach
        self.screen = screen.console()
        self.rows: list[Row] = [Row("you", None)]
        self.failed: list[str] = []

    def say(self, text: str, style: str = "") -> None:
        """One line."""
        self.screen.print(text, style=style, markup=False, soft_wrap=True)

    def grow(self, how: str, make: Callable[[], Context], parent: Row | None = None,
             optional: bool = False) -> Row | None:
        """Start a context, call it, and note the times; None and a line when it cannot be had."""
        start = time.perf_counter()
        try:
            context = make()
            context.call(os.getpid)
            first = time.perf_counter() - start
            row = Row(how, context, parent or self.rows[0], first, trip(context))
        except ContextreeError as error:
            self.say(f"  left out: {how}: {sentence(error)}", "yellow" if optional else "red")
            if not optional:
                self.failed.append(how)
            return None
        self.rows.append(row)
        return row

    def build(self, hosts: list[str]) -> None:
        """The tree of this machine, and the hosts that were asked for."""
        router = self.router
        self.grow("forked from the template, which starts now", lambda: router.fork(name="fork1"))
        self.grow("forked from the template", lambda: router.fork(name="fork2"))
        self.grow("forked from this process (direct)", lambda: router.fork(direct=True, name="direct"))
        local = self.grow("python -c, over a socket pair", lambda: router.local(name="local"))
        if local and local.context:
            below = local.context
            nested = self.grow("python -c, started by local", lambda: below.local(name="nested"), local)
            if nested and nested.context:
                lower = nested.context
                self.grow("forked from the template of nested", lambda: lower.fork(name="deep"), nested)
        for python in machine.pythons():
            if python.version[:2] != sys.version_info[:2]:
                other = functools.partial(router.local, python=python.path, name="other")
                self.grow(f"another Python: {python.path}", other, optional=True)
                break
        else:
            self.say("  left out: another Python: there is none on PATH", "yellow")
        if "localhost" not in hosts:
            self.localhost()
        for host in hosts:
            self.grow(f"ssh {host}", functools.partial(self.reach.open, router, host))

    def localhost(self) -> None:
        """This machine by ssh, where that works without a question."""
        if not shutil.which("ssh"):
            return self.say("  left out: ssh localhost: there is no ssh on PATH", "yellow")
        reach = self.reach._replace(connect_timeout=min(LIMIT, self.reach.connect_timeout))
        self.grow("ssh localhost", lambda: reach.open(self.router, "localhost"), optional=True)
        return None

    def use(self) -> Iterator[str]:
        """Do some work in the tree: a sentence for each."""
        contexts = [row.context for row in self.rows if row.context]
        start = time.perf_counter()
        futures = [context.submit(sum, range(200_000)) for context in contexts]
        right = sum(future.result() == sum(range(200_000)) for future in as_completed(futures))
        yield f"at once   {right} of {len(contexts)} contexts added up 200,000 numbers, together in {since(start)}"
        deep = contexts[-1] if len(contexts) < 6 else contexts[5]
        start = time.perf_counter()
        # pyright knows that it gives count[int], and refuses it all the same
        with deep.stream(itertools.count) as numbers:  # pyright: ignore[reportCallIssue, reportArgumentType]
            taken = sum(1 for _ in itertools.islice(numbers, 5000))
        yield f"stream    {taken} items of an endless generator in {deep.name}, closed after {since(start)}"
        start = time.perf_counter()
        deep.call(len, bytes(BLOCK))
        yield f"data      {BLOCK >> 20} MB to {deep.name} in {since(start)}"
        here = os.getpid()
        answer = contexts[0].call(lambda: f"{os.getpid()}, sent by {here}")
        yield f"closure   a lambda of this process ran in process {answer}"
        try:
            deep.call(os.listdir, "/no/such/folder")
        except FileNotFoundError as error:
            kind = type(error).__name__
            yield f"error     {kind} in {deep.name} is {kind} here, with the traceback from there"

    def show(self) -> None:
        """The tree as a table."""
        order: list[Row] = []

        def add(row: Row) -> None:
            order.append(row)
            for child in self.rows:
                if child.parent is row:
                    add(child)

        add(self.rows[0])
        places = {id(row): place for place, row in enumerate(order)}
        parents = [places[id(row.parent)] if row.parent else None for row in order]
        marks = screen.branches(parents, screen.guides(self.screen))
        heads = ("context", "pid", "Python", "reached by", "first result", "round trip")
        rows = [(mark + row.name, *row.cells()) for mark, row in zip(marks, order, strict=True)]
        screen.table(self.screen, heads, rows, right=("pid", "first result", "round trip"))


def trip(context: Context) -> float:
    """The median of the seconds that a call takes."""
    times = []
    end = time.perf_counter() + 0.5
    for _ in range(CALLS):
        start = time.perf_counter()
        context.call(os.getpid)
        times.append(time.perf_counter() - start)
        if start > end:
            break
    return statistics.median(times)


def since(start: float) -> str:
    """The time since ``start``, for people."""
    return ms(time.perf_counter() - start)


def ms(seconds: float) -> str:
    """Milliseconds for people."""
    return f"{seconds * 1000:.1f} ms"


def us(seconds: float) -> str:
    """Microseconds for people."""
    return f"{seconds * 1e6:.0f} us"


NEXT = """\
Next:
  contextree doctor                       what this machine offers
  contextree demo --ssh HOST              the same with a host of yours
  contextree call HOST platform:node      a function there
  contextree run 'web[1-20]' -- uptime    a command everywhere
  python3 -c 'import contextree, os; print(contextree.Router().local().call(os.getcwd))'\
"""


@click.command()
@click.option("--ssh", "hosts", multiple=True, metavar="HOST", type=Hosts(), help="A host to include; may be repeated.")
@reach_options
def demo(hosts: tuple[Any, ...], reach: Reach) -> int:
    """Build a tree of interpreters on this machine, call functions in all of them, and show what it takes."""
    start = time.perf_counter()
    with Router() as router:
        run = Demo(router, reach)
        run.say(f"contextree {version()} on {platform.node()}: building a tree of Python interpreters", "bold")
        run.build([host for each in hosts for host in each])
        run.screen.print()
        run.show()
        run.screen.print()
        try:
            for line in run.use():
                run.say("  " + line)
        except UsageError:
            raise
        except ContextreeError as error:
            run.failed.append(sentence(error))
        closing = time.perf_counter()
    ended = time.perf_counter()
    run.say(f"  the end   {len(run.rows) - 1} contexts ended in {ms(ended - closing)}, no process is left; "
            f"all of it took {ended - start:.1f} s")
    run.screen.print()
    if run.failed:
        run.say(f"failed: {'; '.join(run.failed)}", "red")
        return 1
    run.say(NEXT)
    return 0
