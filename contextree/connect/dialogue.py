"""A dialogue: what to answer on the terminal of a command until Python runs at its other end.

It is a state machine and it is data: bytes go in, actions come out, nothing is opened or waited for, and it can be
pickled, secrets included, because the context that runs the command may be another one (trust flows down).

How it reads. Output is cut into lines (at CR and LF) however the bytes arrive. Rules are a table; those of the state
we are in are tried from the top, the first that matches decides:

* a PROMPT rule has to match all of the last line, which has no end yet and after which nothing more has come. So a
  banner line "your password: expires soon" is no prompt, nor is "Enter password: " after other text on its line.
* a LINE rule has to match from the start of a line that has ended.

A prompt that had a secret is kept with ``ANSWERED`` behind it: the error text shows that it was answered, and
``classify`` can tell a refusal by it whatever language the command speaks.

After a reply, what a program echoes for it (asterisks, blanks, backspaces) is dropped, then lines are lines again.

A secret is used at most once, or once for each thing that a rule's group ``what`` names (a key's path). The same prompt
again means that the answer was refused. Nothing is matched after ``finish``, ``Failed`` or ``Ready``.

A secret may be a function without arguments, its source (a one-time code): it is called when the prompt has come, by
whoever runs the dialogue and away from the loop thread. A dialogue that is pickled calls it then, and takes along what
it returned: what makes the codes never leaves its process.

Memory: a line is kept to 2 KB (a longer one is never a prompt), 20 lines of 400 bytes are kept for the error text.
"""

import collections
import re

from contextree.connect.plan import TOKEN, Secret, checked_secret
from contextree.core.wire.errors import InternalError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Deque, Dict, List, Mapping, Match, Optional, Sequence, Set, Union

    Action = Union["Reply", "Ask", "Failed", "Ready"]

LINE_MAX = 2048         # a prompt is shorter
KEPT_LINES = 20
KEPT_WIDTH = 400
REPLIES_MAX = 20        # a program that asks and asks is not logging us in

PROMPT, LINE = "prompt", "line"
ANSWERED = "********"
_ECHO = b"*\b\x07 "
_ENDS = re.compile(b"[\r\n]")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Rule(collections.namedtuple("Rule", "state where pattern do secret error text then")):
    """A row of the table.

    state    the state it counts in; None for all.
    where    PROMPT or LINE.
    pattern  bytes of a regular expression. A group ``what`` tells prompts apart that want the same secret.
             ``plan.TOKEN`` in it is what nobody else can write: see ``Dialogue.arm``.
    do       "reply" with the secret; "empty" replies an empty line; "fail"; "ready".
    secret   the secret's name, for "reply"; "a+b" are two of them in a row.
    error    the error's class name, for "fail".
    text     the message: of "fail", or of "reply" when the prompt comes again. ``{prompt}`` is what was matched.
    then     the next state; None stays.
    """

    __slots__ = ()


def prompt(pattern: bytes, do: str, secret: "Optional[str]" = None, error: str = "AuthenticationError",
           text: str = "{prompt}", state: "Optional[str]" = None, then: "Optional[str]" = None) -> "Rule":
    """A rule for a prompt on the terminal."""
    return Rule(state, PROMPT, pattern, do, secret, error, text, then)


def line(pattern: bytes, do: str, error: str = "AuthenticationError", text: str = "{prompt}",
         state: "Optional[str]" = None, then: "Optional[str]" = None) -> "Rule":
    """A rule for a whole line on the terminal."""
    return Rule(state, LINE, pattern, do, None, error, text, then)


def _names(rule: "Rule") -> "List[str]":
    """The secrets that a rule replies with."""
    return rule.secret.split("+") if rule.do == "reply" and rule.secret else []


class Reply(collections.namedtuple("Reply", "data")):
    """Write these bytes to the terminal; they may be a secret, so repr does not show them."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Reply(********)"

    __str__ = __repr__


class Ask(collections.namedtuple("Ask", "secret")):
    """Call ``dialogue.sources[secret]`` on another thread and give what it returns to ``dialogue.answer``."""

    __slots__ = ()


class Failed(collections.namedtuple("Failed", "error message")):
    """The login failed: a class name of ``core.wire.errors`` and a message. End the command."""

    __slots__ = ()


class Ready(collections.namedtuple("Ready", "")):
    """The login is complete as far as the terminal shows; the pipe is the interpreter's from here."""

    __slots__ = ()


class Dialogue:
    """The state machine. One owner, one thread at a time.

    rules: Rule rows. secrets: dict of name -> str, or a function that returns one; a rule replies with one of them.
    """

    again = "fail"  # what is done where a prompt comes again; "empty": the program is to say itself what is wrong

    def __init__(self, rules: "Sequence[Rule]",
                 secrets: "Optional[Mapping[str, Union[None, str, Callable[[], str]]]]" = None) -> None:
        self.rules = tuple(Rule(*rule) for rule in rules)
        for rule in self.rules:
            if rule.do not in ("reply", "empty", "fail", "ready") or rule.where not in (PROMPT, LINE):
                raise InternalError("a dialogue's rule says %r at a %r" % (rule.do, rule.where))
        self.secrets = {}  # type: Dict[str, Secret]
        self.sources = {}  # type: Dict[str, Callable[[], str]]
        for name, text in (secrets or {}).items():
            if isinstance(text, str):
                self.secrets[name] = Secret(text)
            elif text is not None:
                self.sources[name] = text
        self.state = "login"
        self._line = bytearray()        # the terminal's last line, which has no end yet
        self._long = False              # it was longer than LINE_MAX
        self._echo = False              # we replied; what stands for the reply is still to come
        self._err = bytearray()         # the same for stderr
        self._kept = collections.deque(maxlen=KEPT_LINES)  # type: Deque[bytes]
        self._used = set()  # type: Set[object]              # secrets that were sent, and for what
        self._replies = 0
        self._waiting = None  # type: Optional[Rule]         # its secret has been asked of its source

    def __getstate__(self) -> "Dict[str, Any]":
        state = dict(self.__dict__, sources={}, secrets=dict(self.secrets))
        for name, source in self.sources.items():
            state["secrets"][name] = checked_secret(source(), name)
        return state

    def __repr__(self) -> str:
        return "<%s in state %s>" % (type(self).__name__, self.state)

    @property
    def over(self) -> bool:
        """True when nothing will be matched any more."""
        return self.state in ("done", "failed")

    @property
    def pending(self) -> str:
        """The last line of the terminal while it has no end: perhaps a question that nobody answers."""
        return _CONTROL.sub("?", bytes(self._line[:KEPT_WIDTH]).decode("utf-8", "replace").strip())

    def learn(self, data: bytes) -> None:
        """Take the output of the plan's probe; here there is nothing to learn."""

    def arm(self, token: bytes) -> None:
        """Take the token of this attempt: it stands for ``plan.TOKEN`` in the patterns."""
        mark = TOKEN.encode()
        self.rules = tuple(rule._replace(pattern=rule.pattern.replace(mark, token)) for rule in self.rules)

    def feed(self, data: bytes) -> "List[Action]":
        """Take bytes of the terminal, and return what to do: a list of Reply, Ask, Failed and Ready, mostly
        empty.

        Feed all that can be read at once, so that a prompt is seen with what follows it. Nothing follows Failed or
        Ready, and one Ask is answered before there is another.
        """
        actions = []  # type: List[Action]
        pieces = _ENDS.split(data)
        for number, piece in enumerate(pieces):
            if self.over:
                break
            self._append(piece)
            if number < len(pieces) - 1:
                self._decide(LINE, actions)
                self._end_line()
        if not self.over:
            self._decide(PROMPT, actions)
        return actions

    def answer(self, secret: str, text: object) -> "List[Action]":
        """Take what the source of a secret returned, or the exception that it raised, and return what to do."""
        actions = []  # type: List[Action]
        rule, self._waiting = self._waiting, None
        if rule is None or self.over:
            return actions
        try:
            if isinstance(text, BaseException):
                raise UsageError("%s= raised %s: %s" % (secret, type(text).__name__, text))
            value = checked_secret(text, secret)  # type: ignore[arg-type]  # it checks
            if value is None:
                raise UsageError("%s= returned None" % secret)
        except UsageError as error:
            self._fail("AuthenticationError", "there is no answer to the question: %s" % error, actions)
        else:
            self.secrets[secret] = value
            self._reply(rule, actions)
        return actions

    def note(self, data: bytes) -> None:
        """Take bytes of stderr: they are kept for the error text, and never matched (anybody may write there)."""
        pieces = _ENDS.split(data)
        for number, piece in enumerate(pieces):
            self._err += piece[:max(0, KEPT_WIDTH - len(self._err))]
            if number < len(pieces) - 1:
                self._keep(self._err)
                del self._err[:]

    def finish(self) -> None:
        """The login is complete (HELLO came): nothing is matched from now on, secrets and texts are forgotten."""
        self.state = "done"
        self.secrets, self.sources = {}, {}
        self._kept.clear()
        del self._line[:], self._err[:]

    def explain(self) -> str:
        """The last lines of terminal and stderr, safe to show: no control characters, no secret."""
        lines = list(self._kept)
        lines += [bytes(part[:KEPT_WIDTH]) for part in (self._line, self._err) if part.strip()]
        text = b"\n".join(lines).decode("utf-8", "replace")
        for secret in sorted(self.secrets.values(), key=len, reverse=True):
            text = text.replace(secret.reveal(), ANSWERED)
        return _CONTROL.sub("?", text)

    # -- inside

    def _append(self, piece: bytes) -> None:
        room = LINE_MAX - len(self._line)
        self._line += piece[:room]
        self._long = self._long or len(piece) > room
        if self._echo:
            self._line = self._line.lstrip(_ECHO)

    def _end_line(self) -> None:
        if not self.over:
            self._keep(self._line)
            del self._line[:]
            self._long = self._echo = False

    def _keep(self, text: "Union[bytes, bytearray]") -> None:
        if text.strip():
            self._kept.append(bytes(text[:KEPT_WIDTH]))

    def _decide(self, where: str, actions: "List[Action]") -> None:
        """Find the rule for the line, and do what it says."""
        if not self._line or (self._long and where == PROMPT):
            return
        for rule in self.rules:
            if rule.where == where and rule.state in (None, self.state):
                match = (re.fullmatch if where == PROMPT else re.match)(rule.pattern, self._line)
                if match:
                    return self._do(rule, match, actions)

    def _do(self, rule: "Rule", match: "Match[bytes]", actions: "List[Action]") -> None:
        text = rule.text.replace("{prompt}", match.group().decode("utf-8", "replace").strip())
        if rule.do == "fail":
            return self._fail(rule.error, text, actions)
        if rule.do == "ready":
            self._keep(self._line)
            self.state = "done"
            actions.append(Ready())
            return
        if rule.do == "reply":
            what = match.groupdict().get("what")
            keys = {(name, what) for name in _names(rule)}
            if self._waiting or (keys & self._used and self.again == "fail"):
                return self._fail(rule.error, text, actions)
            if keys & self._used:
                rule = rule._replace(do=self.again)
            self._used |= keys
            self._line[KEPT_WIDTH - len(ANSWERED):] = b""
            self._line += ANSWERED.encode()
        self._replies += 1
        if self._replies > REPLIES_MAX:
            return self._fail("AuthenticationError", "it asked %d times: %s" % (self._replies, text), actions)
        return self._reply(rule, actions)

    def _reply(self, rule: "Rule", actions: "List[Action]") -> None:
        names = _names(rule)
        for name in names:
            if name in self.sources and name not in self.secrets:
                self._waiting = rule
                actions.append(Ask(name))
                break
        else:
            answer = "".join(self.secrets[name].reveal() for name in names)
            actions.append(Reply(answer.encode("utf-8", "surrogateescape") + b"\n"))
            self.state = rule.then or self.state
        self._end_line()
        self._echo = True

    def _fail(self, error: str, text: str, actions: "List[Action]") -> None:
        self._keep(self._line)
        del self._line[:]
        self.state = "failed"
        actions.append(Failed(error, _CONTROL.sub("?", text)))
