"""Which hosts a command is about, how they are reached, and their errors as one sentence.

A target is an address (docs/methods/addresses.md). Where it does not begin with a method and a colon, its first hop is
a host for ssh: ``web1``, ``deploy@web1:2222``, ``web1/sudo:root/docker:app``.
"""

import functools
import getpass
import importlib.metadata
import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NamedTuple

import click

from contextree.connect.address import METHODS, Hop, parse
from contextree.connect.plan import Secret
from contextree.core.wire.errors import ContextreeError, UsageError
from contextree.master.router import Router
from contextree.parent.context import Context

MOST = 10_000  # targets of one command
BECOME = ("sudo", "su", "doas")  # methods that ask for a password of their own
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


def address_of(target: str) -> list[Hop]:
    """The hops of a target. Raises BadPattern."""
    word = re.match(r"([a-z]+):", target)
    host = word is None or (word[1] not in METHODS and re.match(r"[a-z]+:([0-9]+([/?]|$)|[^/]*@)", target))
    try:
        return parse("ssh://" + target if host else target)
    except UsageError as error:
        if "holds no password" in str(error):
            raise BadPattern("an address holds no password: --ask-pass and --ask-become-pass ask for it") from None
        raise BadPattern(str(error)) from None


class Hosts(click.ParamType):
    """A host pattern on the command line: the list of targets."""

    name = "HOST[,HOST]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See ``expand`` and ``address_of``."""
        if not isinstance(value, str):
            return value
        try:
            targets = expand(value)
            for target in targets:
                address_of(target)
        except BadPattern as error:
            self.fail(str(error), param, ctx)
        return targets


class Reach(NamedTuple):
    """How hosts are reached: the options that all commands share. Those of ssh are for its hops, ``python`` is for the
    last hop, where the address does not say otherwise."""

    user: str | None = None
    port: int | None = None
    identity_file: str | None = None
    ssh_config: str | None = None
    python: str | None = None
    host_keys: str = "strict"
    connect_timeout: float = 30
    password: str | None = None
    become_password: str | None = None

    def options(self, hop: Hop) -> dict[str, Any]:
        """What is said of one hop beside its address."""
        if hop.method == "fork":
            return {}
        found: dict[str, Any] = {"connect_timeout": self.connect_timeout}
        if hop.method == "ssh":
            ssh = ("user", "port", "identity_file", "ssh_config", "host_keys", "password")
            found.update((name, getattr(self, name)) for name in ssh if getattr(self, name) is not None)
        if hop.method in BECOME and self.become_password is not None:
            found["password"] = self.become_password
        return found

    def open(self, router: Router, target: str) -> Context:
        """The context for ``target``, started now. Raises ConnectError, UsageError."""
        hops = address_of(target)
        last: dict[str, Any] = {}
        if self.python is not None and hops[-1].method != "fork" and "python" not in hops[-1].arguments()[1]:
            last["python"] = self.python
        return router.open(hops, options=self.options, **last)


def ask(prompt: str) -> Secret:
    """A password from the terminal, without an echo. Never from an argument: other users see those."""
    try:
        return Secret(getpass.getpass(prompt, None))
    except EOFError:
        raise click.UsageError("a password was to be asked for, and there is nobody to answer") from None


def reach_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of ``Reach`` to a command, which gets them as ``reach``. Passwords are asked for once, for all
    hosts."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        fields: dict[str, Any] = {}
        for flag, field, prompt in (("ask_pass", "password", "Password for SSH: "),
                                    ("ask_become_pass", "become_password", "Password for sudo, su, doas: ")):
            if kwargs.pop(flag):
                fields[field] = ask(prompt)
        fields.update((field, kwargs.pop(field)) for field in Reach._fields if field in kwargs)
        return command(*args, reach=Reach(**fields), **kwargs)

    for option in reversed((
        click.option("-u", "--user", help="Account there; ssh_config's by default."),
        click.option("-p", "--port", type=click.IntRange(1, 65535)),
        click.option("-i", "--identity", "identity_file", metavar="FILE", help="Private key to use, and no other."),
        click.option("-F", "--ssh-config", metavar="FILE", help="Configuration to use instead of ~/.ssh/config."),
        click.option("--python", help="The interpreter there; by default the first one found."),
        click.option("--host-keys", type=click.Choice(["strict", "accept-new", "off"]), default="strict",
                     show_default=True),
        click.option("--connect-timeout", type=click.FloatRange(0, min_open=True), default=30, show_default=True,
                     metavar="SECONDS", help="For each phase of each hop."),
        click.option("-k", "--ask-pass", is_flag=True, help="Ask for the password for ssh, once for all hosts."),
        click.option("-K", "--ask-become-pass", is_flag=True, help="Ask for that of sudo, su and doas, once for all."),
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
    """Open every target and do ``action(target, context)``, ``parallel`` at a time: outcomes in order of arrival.

    Threads rather than ``contextree.gather``: that calls one function in contexts which are there, while here each has
    several hops to be opened one after the other, some of them shared, and ``run`` passes output on meanwhile."""

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
