"""``contextree doctor``: what this machine offers, and whether hosts can be contexts."""

import os
import sys
import time

import click

from contextree.cli import machine, screen
from contextree.cli.machine import Fact
from contextree.cli.targets import Hosts, Reach, each, label, reach_options, sentence
from contextree.core.wire.errors import ContextreeError
from contextree.master.router import Router
from contextree.parent.context import Context

VERDICT = {True: "ok", None: "note", False: "WRONG"}


def trial(router: Router) -> Fact:
    """Start a context of each local kind and call it."""
    times = []
    for kind, make in (("fork", router.fork), ("local", router.local)):
        start = time.perf_counter()
        try:
            make().call(os.getpid)
        except ContextreeError as error:
            return Fact("trial", f"{kind}: {sentence(error)}", False)
        times.append(f"{kind} {(time.perf_counter() - start) * 1000:.0f} ms")
    return Fact("trial", "first result: " + ", ".join(times))


@click.command()
@click.argument("hosts", type=Hosts(), metavar="[HOST[,HOST]]", required=False)
@reach_options
def doctor(hosts: list[str] | None, reach: Reach) -> int:
    """Say what this machine offers to contextree; with HOSTs also whether each of them can be a context.

    Exit status 1 when something is wrong; notes say what works with less.
    """
    found = list(machine.facts())
    with Router() as router:
        found.append(trial(router))
        for outcome in each(router, hosts, reach, about, 16) if hosts else ():
            if outcome.error is None:
                found.append(Fact(label(outcome.target), outcome.value))
            else:
                found.append(Fact(label(outcome.target), sentence(outcome.error), False))
    made = screen.console()
    screen.table(made, ("what", "", "found"), [(fact.what, VERDICT[fact.ok], fact.found) for fact in found])
    return 1 if any(fact.ok is False for fact in found) else 0


def about(_target: str, context: Context) -> str:
    """A host in one line."""
    facts = context.facts
    user = facts["uid"]
    modules = f"round trip {min(context.ping(10) for _ in range(3)) * 1000:.2f} ms"
    same = "" if facts["version"][:2] == sys.version_info[:2] else "; another Python than here: lambdas cannot go there"
    return (f"Python {'.'.join(map(str, facts['version']))} at {facts['executable']}, uid {user}, {facts['platform']}, "
            f"up in {facts['started'] * 1000:.0f} ms, {modules}{same}")
