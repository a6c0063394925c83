"""``contextree ping``, ``call`` and ``run``: the same for one host and for many at once."""

import importlib
import json
import os
import shlex
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import click

from contextree.cli.targets import Hosts, Outcome, Reach, each, label, reach_options, sentence, show_output
from contextree.core.wire.errors import RemoteError
from contextree.master.router import Router
from contextree.parent.context import Context

UNREACHED, NOT_FOUND, NOT_RUN, TIMED_OUT = 255, 127, 126, 124  # as ssh, the shell and timeout(1) have it

parallel_option = click.option("--parallel", type=click.IntRange(1, 1000), default=32, show_default=True, metavar="N",
                               help="Hosts at a time.")
timeout_option = click.option("--timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
                              help="For each host, once it is connected.")


def complain(outcome: Outcome) -> None:
    """One line on stderr about a target that failed."""
    if outcome.error is not None:
        click.echo(f"{label(outcome.target)}: {sentence(outcome.error)}", err=True)


@click.command()
@click.argument("hosts", type=Hosts(), metavar="HOST[,HOST]")
@click.option("-c", "--count", type=click.IntRange(1), default=3, show_default=True, help="Pings for each host.")
@parallel_option
@reach_options
def ping(hosts: list[str], count: int, parallel: int, reach: Reach) -> int:
    """Start a context on each HOST and time a round trip through it.

    HOST is what ssh takes, an address such as web1/sudo:root or local:, or a pattern of them: web[1-20],db.
    """

    def times(_target: str, context: Context) -> tuple[float, list[float], tuple[int, ...]]:
        return context.facts["started"], [context.ping(10) for _ in range(count)], context.facts["version"]

    failed = 0
    width = max(len(label(host)) for host in hosts)
    with Router() as router:
        for outcome in each(router, hosts, reach, times, parallel):
            complain(outcome)
            failed += outcome.error is not None
            if outcome.error is None:
                started, found, version = outcome.value
                click.echo(f"{label(outcome.target):{width}}  up in {started * 1000:.0f} ms, "
                           f"round trip {min(found) * 1000:.2f} ms, Python {'.'.join(map(str, version))}")
    return 1 if failed else 0


class Function(click.ParamType):
    """``module:function`` on the command line: the function, imported here."""

    name = "MODULE:FUNCTION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Import it; modules in the current directory count."""
        if callable(value):
            return value
        module, colon, name = value.partition(":")
        if not (module and colon and name):
            self.fail(f"{value!r} is no MODULE:FUNCTION such as platform:node", param, ctx)
        if "" not in sys.path and os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            found: Any = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            self.fail(f"{value!r} cannot be imported here: {error}", param, ctx)
        if not callable(found):
            self.fail(f"{value!r} is no function: it is of type {type(found).__name__}", param, ctx)
        return found


def from_json(text: str) -> Any:
    """An argument: the value where it is JSON, else the string itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def shown(value: Any) -> str:
    """A result on one line: a str as it is, anything else as JSON, or as Python shows it where JSON cannot."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return repr(value)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("hosts", type=Hosts(), metavar="HOST[,HOST]")
@click.argument("function", type=Function(), metavar="MODULE:FUNCTION")
@click.argument("arguments", nargs=-1, metavar="[ARGUMENT]...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object at the end: HOST: {result} or {error}.")
@click.option("--traceback", "with_traceback", is_flag=True, help="Show where a function failed there.")
@timeout_option
@parallel_option
@reach_options
def call(hosts: list[str], function: Callable[..., Any], arguments: tuple[str, ...], as_json: bool,
         with_traceback: bool, timeout: float | None, parallel: int, reach: Reach) -> int:
    """Call a function on each HOST and print what it returns.

    An ARGUMENT that is JSON (5, [1, 2], "5") is that value, any other is a string. The function's module need not be on
    the hosts. What it prints comes on stderr.

    \b
    contextree call web1 platform:node
    contextree call web[1-20],db os.path:exists /etc/fstab
    """
    values = [from_json(text) for text in arguments]
    results: dict[str, Any] = {}
    failed = 0

    def action(_target: str, context: Context) -> Any:
        return context.with_options(timeout=timeout).call(function, *values)

    show_output()
    with Router() as router:
        for outcome in each(router, hosts, reach, action, parallel):
            failed += outcome.error is not None
            if as_json:
                key, value = ("result", outcome.value) if outcome.error is None else ("error", sentence(outcome.error))
                results[outcome.target] = {key: value}
            elif outcome.error is None:
                click.echo(f"{label(outcome.target)}: " * (len(hosts) > 1) + shown(outcome.value))
            else:
                complain(outcome)
            if with_traceback and outcome.error is not None:
                show_traceback(outcome.error)
    if as_json:
        click.echo(json.dumps(results, ensure_ascii=False, default=repr))
    return 1 if failed else 0


def show_traceback(error: BaseException) -> None:
    """Where it failed: over there, if it was there."""
    cause = error if isinstance(error, RemoteError) else error.__cause__
    if isinstance(cause, RemoteError):
        click.echo(cause.traceback.rstrip(), err=True)
    else:
        click.echo("".join(traceback.format_exception(error)).rstrip(), err=True)


@click.command()
@click.argument("hosts", type=Hosts(), metavar="HOST[,HOST]")
@click.argument("words", nargs=-1, required=True, metavar="-- COMMAND [ARGUMENT]...")
@click.option("-s", "--shell", is_flag=True, help="Give the words to the shell there, as one line.")
@click.option("--stdin", "with_stdin", is_flag=True, help="Let the command read our standard input; for one host.")
@timeout_option
@parallel_option
@reach_options
def run(hosts: list[str], words: tuple[str, ...], shell: bool, with_stdin: bool, timeout: float | None, parallel: int,
        reach: Reach) -> int:
    """Run a command on each HOST, and show what it says as it says it.

    With one host its output and its exit status are passed on (255: not reached); with several every line has the host
    before it, and the status is 0 if it was 0 everywhere, else 1. After --timeout, and after Ctrl-C, the command is
    ended there, with all that it started.
    """
    if with_stdin and len(hosts) > 1:
        raise click.UsageError("--stdin is for one host: there is one standard input")
    argv = ["/bin/sh", "-c", " ".join(words)] if shell else list(words)
    statuses = {}
    lock = threading.Lock()

    def one(target: str, context: Context) -> int:
        name = label(target) if len(hosts) > 1 else ""
        outputs = [Passed(stream, name, lock) for stream in (sys.stdout.buffer, sys.stderr.buffer)]
        try:
            return context.run(argv, stdin=0 if with_stdin else None, stdout=outputs[0], stderr=outputs[1],
                               timeout=timeout).returncode
        finally:
            for output in outputs:
                output.end()

    with Router() as router:
        for outcome in each(router, hosts, reach, one, parallel):
            statuses[outcome.target] = status_of(outcome)
            if isinstance(outcome.error, (FileNotFoundError, PermissionError)):
                why = f"cannot run {shlex.join(argv[:1])}: {outcome.error.strerror}"
                click.echo(f"{label(outcome.target)}: {why}", err=True)
            elif isinstance(outcome.error, subprocess.TimeoutExpired):
                click.echo(f"{label(outcome.target)}: it had not ended after {timeout:g} s, and was killed", err=True)
            else:
                complain(outcome)
    if len(hosts) == 1:
        return statuses[hosts[0]]
    failed = [f"{label(host)} ({status})" for host, status in statuses.items() if status]
    if failed:
        click.echo(f"{len(failed)} of {len(hosts)} failed, by exit status: {', '.join(failed)}", err=True)
    return 1 if failed else 0


def status_of(outcome: Outcome) -> int:
    """The exit status that stands for an outcome of ``run``; a signal is 128 and its number, as in a shell."""
    if outcome.error is None:
        status = int(outcome.value)
        return 128 - status if status < 0 else status
    if not outcome.reached:
        return UNREACHED
    for kind, status in ((FileNotFoundError, NOT_FOUND), (PermissionError, NOT_RUN),
                         (subprocess.TimeoutExpired, TIMED_OUT)):
        if isinstance(outcome.error, kind):
            return status
    return UNREACHED


class Passed:
    """Passes output on as it comes; under a host's name, line by line, so that lines of several hosts do not mix."""

    def __init__(self, file: Any, host: str, lock: threading.Lock) -> None:
        self.file = file
        self.prefix = host.encode() + b": " if host else b""
        self.lock = lock
        self.rest = b""

    def __call__(self, data: bytes) -> None:
        """Pass ``data`` on."""
        if self.prefix:
            *lines, self.rest = (self.rest + data).split(b"\n")
            data = b"".join(self.prefix + line + b"\n" for line in lines)
        if data:
            with self.lock:
                self.file.write(data)
                self.file.flush()

    def end(self) -> None:
        """Nothing more comes: the last line may have had no end."""
        if self.rest:
            self(b"\n")
