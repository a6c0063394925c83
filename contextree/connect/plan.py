"""A connection method is data: what to start, whether it needs a tty, and how to talk until Python runs there.

Pure: nothing here opens, waits or reads a clock. ``contextree.parent.spawn`` runs every Plan in the same way:

1. run ``plan.probe`` if there is one and give its output to ``plan.dialogue.learn`` (off the loop thread), and a fresh
   token to ``plan.dialogue.arm``;
2. start ``command(plan, stage_words)``, with a controlling terminal if ``plan.tty``;
3. give what the terminal says to ``plan.dialogue.feed`` and do what it answers, stderr to ``plan.dialogue.note``;
4. call ``plan.dialogue.finish()`` when HELLO has come;
5. or, when the command ended before HELLO, raise what ``plan.explain(status, output)`` names.
"""

import re

from contextree.connect import discover
from contextree.connect.quote import quote
from contextree.core.first_stage import SAFE
from contextree.core.wire.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple, Union

    from contextree.connect.dialogue import Dialogue

# What stands for something in ``Plan.argv``; ``command`` fills it in.
PYTHON = "\0python"  # the interpreter's command line, as several words
PYTHON_SAFE = "\0python safe"  # the same with ``first_stage.SAFE`` set, by ``env``: for what clears the environment
PYTHON_QUOTED = "\0python quoted"  # the same as one word, or the end of one, for a shell
HERE = "\0here"  # the interpreter of the context that carries the plan out: for a launcher written in Python
LAUNCHER = "\0launcher "  # and a module of contextree.parent: the text of ``-c`` that runs it as a program (see spawn)
TOKEN = "\0token"  # part of a word, and of a rule's pattern: some letters and digits that nobody can guess

#: What a name of a context looks like, and how long it may be.
NAME = re.compile(r"[\w.@:-]{1,128}")
NAME_MAX = 128

#: Seconds for each phase of starting, where the caller gave none.
PHASES = {"connect": 30, "login": 30, "boot": 30}


class Secret(str):
    """A string that shows itself nowhere: masked in repr, str.format and logs; ``reveal()`` gives the text.

    >>> secret = contextree.Secret("open sesame")
    >>> print(secret)
    ********
    >>> secret.reveal()
    'open sesame'
    """

    __slots__ = ()

    def __new__(cls, text: str = "") -> "Secret":
        # str(a Secret) is the mask, so a Secret of a Secret needs the text itself.
        return str.__new__(cls, text.reveal() if isinstance(text, Secret) else text)

    def __repr__(self) -> str:
        return "Secret('********')"

    def __str__(self) -> str:
        return "********"

    def __format__(self, spec: str) -> str:
        return "********"

    def reveal(self) -> str:
        """The text itself, as a plain str."""
        return str.__str__(self)


class Plan:
    """How to start one interpreter. Picklable: it is sent to the context that starts it. Not changed once made.

    argv      list of str: the command, ending in the interpreter's command line, which ``command`` fills in
              where an element is the constant ``PYTHON`` or ``PYTHON_SAFE`` (expanded into several words), or
              ``PYTHON_QUOTED`` (one word, quoted for a POSIX shell, csh and fish alike). The latter two have
              ``first_stage.SAFE`` in their environment; ``discover.WORDS`` set it themselves.
    name      str: the default name of the context, its last part, for example ``ssh.web1``.
    method    str: ``local``, ``ssh`` ...
    tty       bool: give the command a controlling terminal, on which the dialogue talks. Without one, start it in a
              session of its own, so that nothing in it asks on the user's terminal.
    handover  bool: the command asks on its stdin, not on /dev/tty (su): it gets the terminal as 0 to 2, and the
              interpreter takes the link and stderr from other descriptors. Wants ``tty``.
    dialogue  None, or a ``contextree.connect.dialogue.Dialogue``.
    env       dict or None: variables added to the environment; a value of None removes one.
    python    list of str: the interpreter's words; empty: the interpreter of the context that starts it.
    remote    bool: the other end is another host (keepalive matters, nothing is shared).
    trusted   bool: it runs as the same user on the same host.
    phases    dict of phase -> limit in seconds ("connect", "login", "boot").
    probe     None, or a command whose output ``dialogue.learn`` wants before the first byte; its failure is no error.
    before    commands (lists of words) to run first, one after the other, in the process that becomes the command;
              where one fails, ``classify`` says what it means. They may have HERE and TOKEN in them, as ``python`` may.
    transport None, or data of a way that needs no command, carried out by the context itself: an object with a ``name``
              (``contextree.connect.ssh_paramiko.Access``). ``argv`` is then what runs at the other end.
    after     commands to run when the child is gone, or could not be started, or this process was killed; their failure
              is logged, no more.
    warnings  tuple of str: what to log when the plan is carried out (a check that the user switched off).
    silence   seconds without a word from the other end after which the link counts as dead there too, where its kernel
              says that what it sends is not acknowledged; None: no such watch. For methods that cross a network.
    heartbeat seconds within which the parent notices that nothing answers at the other end; None: never. ``grow`` fills
              in what its caller says, or, where ``remote``, the default of the router.
    address   how the context is reached, for people and ``tree()``, such as ``ssh://web1``; "": the method.
    sockets   None, or a module-level function: what the probe wrote -> list of paths of control sockets, which must
              be the user's alone, they and the folder that they are in.
    classify  None, or a module-level function (method, status, output) -> (error class name, message, phase); it is
              pickled by its name, so its module is imported where the plan is unpickled. ``{python}`` in a message is
              the interpreter's first word.

    >>> import os
    >>> from contextree.connect.plan import PYTHON
    >>> plan = contextree.Plan(["env", "COLOUR=red", PYTHON], "red", "env", trusted=True)
    >>> with router.grow(plan) as red:
    ...     red.call(os.getenv, "COLOUR")
    'red'

    """

    __slots__ = ("argv", "name", "method", "tty", "dialogue", "env", "python", "remote", "trusted", "phases",
                 "probe", "warnings", "classify", "silence", "handover", "before", "after", "heartbeat", "address",
                 "sockets", "transport")

    def __init__(self, argv: "Sequence[str]", name: str, method: str, tty: bool = False,
                 dialogue: "Optional[Dialogue] | None" = None, env: "Optional[Dict[str, Optional[str]]] | None" = None,
                 python: "Sequence[str]" = ("python3",), remote: bool = False, trusted: bool = False,
                 phases: "Optional[Dict[str, float]] | None" = None, probe: "Optional[Sequence[str]] | None" = None,
                 warnings: "Iterable[str]" = (),
                 classify: "Optional[Callable[[str, Optional[int], str], Tuple[str, str, str]]] | None" = None,
                 silence: "Optional[float] | None" = None, handover: bool = False,
                 before: "Iterable[Sequence[str]]" = (), after: "Iterable[Sequence[str]]" = (),
                 heartbeat: "Optional[float] | None" = None, address: str = "",
                 sockets: "Optional[Callable[[bytes], List[str]]] | None" = None, transport: "Any" = None) -> None:
        self.argv = argv
        self.name = name
        self.method = method
        self.tty = tty
        self.dialogue = dialogue
        self.env = env
        self.python = python
        self.remote = remote
        self.trusted = trusted
        self.phases = dict(PHASES, **(phases or {}))
        self.probe = probe
        self.warnings = tuple(warnings)
        self.classify = classify
        self.silence = silence
        self.handover = handover
        self.before = tuple(before)
        self.after = tuple(after)
        self.heartbeat = heartbeat
        self.address = address
        self.sockets = sockets
        self.transport = transport

    def __reduce__(self) -> "Tuple[Any, ...]":
        return Plan, tuple(getattr(self, field) for field in self.__slots__)

    def copy(self, **changes: "Any") -> "Plan":
        """The same plan but for these fields."""
        fields = dict(zip(self.__slots__, self.__reduce__()[1]))  # type: Dict[str, Any]
        fields.update(changes)
        return Plan(**fields)

    def __repr__(self) -> str:
        return "<Plan %s by %s>" % (self.name, self.method)

    def explain(self, status: "Optional[int]", output: str) -> "Tuple[str, str, str]":
        """Why the command ended before HELLO: (name of a class in ``core.wire.errors``, message, phase).

        status: as in ``subprocess.Popen.returncode``, or None if unknown. output: the last lines it wrote.
        """
        if self.classify is not None:
            error, text, phase = self.classify(self.method, status, output)
            return error, text.replace("{python}", self.python[0] if self.python else "the interpreter"), phase
        return generic(self.method, status, output)


def command(plan: "Plan", stage_words: "Sequence[str]", default: "Sequence[str]" = ("python3",),
            token: str = "") -> "List[str]":
    """The argv of a plan, its interpreter's command line being ``plan.python`` (or `default`) and `stage_words`.

    Raises UsageError where words cannot be quoted for the shell at the other end. Any thread.
    """
    python = fill(plan.python or default, default, token)
    own = python[1:2] + python[3:] == ["-c", discover.WORDS[-1]]  # whichever shell has it, and wherever it looks first
    safe = [] if own else ["env", "=".join(SAFE)]
    argv = []  # type: List[str]
    for word in plan.argv:
        if word == PYTHON:
            argv += python + list(stage_words)
        elif word == PYTHON_SAFE:
            argv += safe + python + list(stage_words)
        elif word.endswith(PYTHON_QUOTED):
            argv.append(word[:-len(PYTHON_QUOTED)] + (quote(safe) + " " if safe else "")
                        + quote(python + list(stage_words), tilde=True))
        else:
            argv += fill([word], default, token)
    return argv


def fill(words: "Sequence[str]", default: "Sequence[str]", token: str) -> "List[str]":
    """The words of a command in ``before`` and ``after``, and those of an interpreter: with HERE and TOKEN filled
    in."""
    out = []  # type: List[str]
    for word in words:
        out += default if word == HERE else [word.replace(TOKEN, token)]
    return out


def generic(method: str, status: "Optional[int]", output: str) -> "Tuple[str, str, str]":
    """What can be said of any command that ended before HELLO."""
    return "ConnectError", "%s: the interpreter %s before it said hello%s" % (
        method, how_it_ended(status), last_line(output)), "boot"


def how_it_ended(status: "Optional[int]") -> str:
    """A returncode in words."""
    if status is None:
        return "ended"
    return "was killed by signal %d" % -status if status < 0 else "ended with status %d" % status


def last_line(output: str) -> str:
    """': ' and the last line of a text, or nothing."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return ": " + lines[-1] if lines else ""


def python_words(python: "Union[None, str, Sequence[str]]") -> "List[str]":
    """The words of a ``python=`` argument: a list of str is taken as it is, a str is split as a shell would.

    None gives no words. Raises UsageError.
    """
    if python is None:
        return []
    if isinstance(python, str):
        import shlex  # python3-minimal has none, and is to have children too

        try:
            words = shlex.split(python)
        except ValueError as exc:
            raise UsageError("python=%r cannot be split into words: %s" % (python, exc)) from None
    else:
        words = list(python)
    if not words or not all(isinstance(word, str) and word and "\0" not in word for word in words):
        raise UsageError("python= wants a command such as 'python3' or ['/usr/bin/env', 'X=1', 'python3'], not %r"
                         % (python,))
    return words


def checked_env(env: "Optional[Dict[str, Optional[str]]]") -> "Optional[Dict[str, Optional[str]]]":
    """A copy of an ``env=`` argument; raises UsageError unless it maps names to str, or None to remove."""
    if env is None:
        return None
    for key, value in env.items():
        if not isinstance(key, str) or not key or "=" in key or "\0" in key:
            raise UsageError("env= has the name %r; a name is not empty and has no '=' in it" % (key,))
        if value is not None and (not isinstance(value, str) or "\0" in value):
            raise UsageError("env= wants str or None as the value of %s, not %s" % (key, type(value).__name__))
    return dict(env)


def checked_secret(value: "Optional[str]", what: str) -> "Optional[Secret]":
    """A ``password=`` or ``passphrase=`` argument as a Secret; raises UsageError where a terminal cannot carry it."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise UsageError("%s= wants a str, not %s" % (what, type(value).__name__))
    secret = Secret(value)
    if not 0 < len(secret) <= 1024 or re.search("[\0\r\n]", secret):
        raise UsageError("%s= is empty, longer than 1024 characters, or has a line end in it" % what)
    return secret


def checked_phases(timeout: "Union[float, Dict[str, float]]") -> "Dict[str, float]":
    """The phases of a ``connect_timeout=`` argument: seconds for each, or a dict for some of them."""
    phases = dict(timeout) if isinstance(timeout, dict) else dict.fromkeys(PHASES, timeout)
    for phase, seconds in phases.items():
        if phase not in PHASES:
            raise UsageError("connect_timeout= has the phase %r; there are %s" % (phase, ", ".join(sorted(PHASES))))
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < 1e7:
            raise UsageError("connect_timeout= wants a number of seconds above 0, not %r" % (seconds,))
    return dict(PHASES, **phases)


def safe_name(text: str) -> str:
    """A context's name made of any text: what is not allowed in names becomes '_' (``CORP\\ann`` -> ``CORP_ann``).

    Raises UsageError for an empty text and for one with a slash: it would look like a path, which is no name.
    """
    if not isinstance(text, str) or not text:
        raise UsageError("a context's name is a str that is not empty, not %r" % (text,))
    if "/" in text:
        raise UsageError("a context's name has no slash in it: %r" % text)
    return re.sub(r"[^\w.@:-]", "_", text)[:NAME_MAX]


def checked_name(name: "Optional[str]", default: str) -> str:
    """A ``name=`` argument, or the default made safe. A name that was given is refused rather than changed."""
    if name is None:
        return safe_name(default)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UsageError("name=%r: a context's name is 1 to %d letters, digits and '_.@:-'" % (name, NAME_MAX))
    return name
