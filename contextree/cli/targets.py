"""Which hosts a command is about, how they are reached, and their errors as one sentence.

A target is what ssh takes as a host; ``local:`` is a new interpreter on this machine, ``local:/usr/bin/python3`` that
one.
"""

import functools
import importlib.metadata
import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NamedTuple

import click

from contextree.core.wire.errors import ContextreeError
from contextree.master.router import Router
from contextree.parent.context import Context

MOST = 10_000  # targets of one command
LOCAL = "local:"
_GROUP = re.compile(r"\[([0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*)\]")


class BadPattern(ValueError):
    """A host pattern that means nothing; the text says why."""


def expand(pattern: str) -> list[str]:
    """The hosts of ``web[1-20],db``: each once, in order. Leading zeros count: ``web[01-20]``. Raises BadPattern.

    Brackets that hold no numbers are part of a name, as in the address ``[::1]``."""
    found: dict[str, None] = {}
    for part in _split(pattern):
        for host in _expand_one(part.strip()):
            found[host] = None
            if len(found) > MOST:
                raise BadPattern(f"{pattern!r} names more than {MOST} hosts")
    return list(found)


def _split(pattern: str) -> list[str]:
    depth, parts = 0, [""]
    for character in pattern:
        depth += (character == "[") - (character == "]")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    if depth or any(not part.strip() for part in parts):
        raise BadPattern(f"{pattern!r} is no list of hosts such as web[1-20],db")
    return parts


def _expand_one(part: str) -> Iterator[str]:
    group = _GROUP.search(part)
    if group is None:
        if re.search(r"\[[^:]*\]", part):
            raise BadPattern(f"{part!r}: brackets hold numbers, as in web[1-20] or web[1,3,7-9]")
        yield part
        return
    before, after = part[:group.start()], part[group.end():]
    for item in group[1].split(","):
        first, _, last = item.partition("-")
        last = last or first
        if int(last) < int(first) or int(last) - int(first) >= MOST:
            raise BadPattern(f"{part!r}: [{item}] wants a lower and a higher number, at most {MOST} apart")
        for number in range(int(first), int(last) + 1):
            yield from _expand_one(f"{before}{number:0{len(first)}d}{after}")


class Hosts(click.ParamType):
    """A host pattern on the command line: the list of targets."""

    name = "HOST[,HOST]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See ``expand``."""
        try:
            return expand(value) if isinstance(value, str) else value
        except BadPattern as error:
            self.fail(str(error), param, ctx)


class Reach(NamedTuple):
    """How hosts are reached: the options that all commands share."""

    user: str | None = None
    port: int | None = None
    identity_file: str | None = None
    ssh_config: str | None = None
    python: str = "python3"
    host_keys: str = "strict"
    connect_timeout: float = 30

    def open(self, router: Router, target: str) -> Context:
        """The context for ``target``, started now. Raises ConnectError, UsageError."""
        if target.startswith(LOCAL):
            return router.local(python=target.removeprefix(LOCAL) or None)
        return router.ssh(target, **self._asdict())


def reach_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of ``Reach`` to a command, which gets them as ``reach``."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return command(*args, reach=Reach(**{field: kwargs.pop(field) for field in Reach._fields}), **kwargs)

    for option in reversed((
        click.option("-u", "--user", help="Account there; ssh_config's by default."),
        click.option("-p", "--port", type=click.IntRange(1, 65535)),
        click.option("-i", "--identity", "identity_file", metavar="FILE", help="Private key to use, and no other."),
        click.option("-F", "--ssh-config", metavar="FILE", help="Configuration to use instead of ~/.ssh/config."),
        click.option("--python", default="python3", show_default=True, help="The interpreter there."),
        click.option("--host-keys", type=click.Choice(["strict", "accept-new", "off"]), default="strict",
                     show_default=True),
        click.option("--connect-timeout", type=click.FloatRange(0, min_open=True), default=30, show_default=True,
                     metavar="SECONDS", help="For each phase of connecting."),
    )):
        wrapped = option(wrapped)
    return wrapped


def label(target: str) -> str:
    """What a target is called in output: ``local`` for ``local:``."""
    return target.removesuffix(":")


class Outcome(NamedTuple):
    """What became of one target: a value, or an error, which was raised while connecting if not ``reached``."""

    target: str
    value: Any = None
    error: BaseException | None = None
    reached: bool = True


def each(router: Router, targets: list[str], reach: Reach, action: Callable[[str, Context], Any],
         parallel: int) -> Iterator[Outcome]:
    """Open every target and do ``action(target, context)``, ``parallel`` at a time: outcomes in order of arrival."""

    def one(target: str) -> Outcome:
        try:
            context = reach.open(router, target)
        except (ContextreeError, OSError) as error:
            return Outcome(target, error=error, reached=False)
        try:
            return Outcome(target, action(target, context))
        except Exception as error:  # noqa: BLE001  # whatever the function there raised
            return Outcome(target, error=error)

    pool = ThreadPoolExecutor(min(parallel, len(targets)), "contextree-cli")
    try:
        for future in as_completed([pool.submit(one, target) for target in targets]):
            yield future.result()
    except BaseException:
        router.close(0.5)  # what still connects or runs ends with an error, and so do the threads
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def sentence(error: BaseException) -> str:
    """An error on one line; those of other programs with their type."""
    text = str(error.args[0]) if isinstance(error, ContextreeError) and error.args else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    text = " ".join(lines)
    if isinstance(error, ContextreeError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def show_output() -> None:
    """Lines that contexts print, and records that they log, go to stderr with the name of the context before them."""

    class Name(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            record.who = getattr(record, "context", None) or "contextree"
            return not record.name.endswith(".login")  # that is in the error, if it came to one

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(who)s: %(message)s"))
    handler.addFilter(Name())
    logger = logging.getLogger("contextree")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def version() -> str:
    """The version that is installed."""
    try:
        return importlib.metadata.version("contextree")
    except importlib.metadata.PackageNotFoundError:  # a checkout on sys.path
        return "0"
