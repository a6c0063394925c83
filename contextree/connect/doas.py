"""Another account, by ``doas``: OpenBSD's, and opendoas.

doas asks on its controlling terminal, which is ours: ``doas (ann@web1) password: ``. It runs the command itself,
without a shell, so nobody else writes there before. Without a password doas must not ask (``-n``). stdin and stdout
stay a clean pipe. doas clears the environment; the command is started by ``env``.
"""

from contextree.connect import checked
from contextree.connect.accounts import (
    OTHER_PROMPTS,
    WRONG,
    checked_user,
    why,
)
from contextree.connect.dialogue import Dialogue, prompt
from contextree.connect.discover import WORDS
from contextree.connect.plan import PYTHON_SAFE, Plan, checked_name, checked_phases, checked_secret, python_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Optional, Sequence, Tuple, Union

    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.doas`` takes beside the user: what ``plan`` does."""

        password: Optional[str]
        extra_args: Union[str, Sequence[str]]
        doas: Union[str, Sequence[str]]
        python: Union[None, str, Sequence[str]]
        connect_timeout: Union[float, Dict[str, float]]
        name: Optional[str]


def plan(user: str = "root", password: "Optional[str]" = None, extra_args: "Union[str, Sequence[str]]" = (),
         doas: "Union[str, Sequence[str]]" = "doas", python: "Union[None, str, Sequence[str]]" = None,
         connect_timeout: "Union[float, Dict[str, float]]" = 30, name: "Optional[str]" = None) -> Plan:
    """A Plan for an interpreter of another account on the same machine.

    user             the account.
    password         that of the account which runs doas. str or Secret. None: doas must not ask.
    extra_args       further words for doas: a list, or str that is split at blanks.
    doas             the program: a path, or several words.
    python           its interpreter: str, split as a shell would, or list of words. None: the first one found, see
                     ``contextree.connect.discover``.
    connect_timeout  seconds for each phase, or a dict with some of "connect", "login", "boot".
    name             the context's name, ``doas.USER`` if not given.

    Raises UsageError for what cannot be passed on safely. Any thread.
    """
    secret = checked_secret(password, "password")
    argv = checked.program(doas, "doas") + (["-n"] if secret is None else [])
    return Plan(argv + checked.further(extra_args, "extra_args") + ["-u", checked_user(user), "--", PYTHON_SAFE],
                checked_name(name, "doas." + user), "doas", tty=secret is not None,
                dialogue=None if secret is None else Dialogue(_RULES, {"password": secret}),
                python=python_words(python) or WORDS, phases=checked_phases(connect_timeout), classify=classify)


_RULES = (
    prompt(rb"doas \([^\n]{1,99}@[^\n]{0,99}\) password: ?", "reply", secret="password",
           text="doas " + WRONG, then="answered"),
) + OTHER_PROMPTS

_ROWS = (
    (r"doas: (?:unknown user|no passwd entry for (?:target|user)|no such user)", "ConnectError", "connect",
        "there is no such account: {0}"),
    (r"doas: (?:not installed setuid|.*setuid)", "ConnectError", "start", "doas cannot work here: {0}"),
    (r"doas: (?:unrecognized option|invalid option|illegal option|unknown option)|usage: doas", "ConnectError",
        "start", "doas does not take its options: {0}"),
    (r"doas: doas is not enabled", "ConnectError", "start", "doas has no configuration here: {0}"),
    (r"doas: (?:Authentication required|Authorization required|a tty is required)", "AuthenticationError", "login",
        "doas asks for a password, and password= was not given"),
    (r"doas: Operation not permitted", "AuthenticationError", "login", "doas does not allow this: {0}"),
    (r".*account has expired", "AuthenticationError", "login", "the account that runs doas has expired: {0}"),
    (r".*[Yy]ou are required to change your password|.*[Pp]assword (?:has )?expired", "AuthenticationError", "login",
        "the password has expired and must be changed first: {0}"),
    (r"doas: (?:Authentication failed|Authorization failed)", "AuthenticationError", "login",
        "doas " + WRONG),
    (r"doas: (\S+): command not found", "ConnectError", "boot",
        "the account has no command {1}; say by python= which Python to use"),
)


def classify(method: str, status: "Optional[int]", output: str) -> "Tuple[str, str, str]":
    """Why doas ended before HELLO: (error class name, message, phase). Pure; any text will do."""
    return why(method, _ROWS, (1,), status, output)
