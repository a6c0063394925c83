"""Another account, by ``su``: that of util-linux, of shadow, of busybox, of the BSDs.

su asks on its stdin, and most write the prompt to stderr, busybox to stdout. So it is handed over a terminal of ours as
stdin and stderr (see ``contextree.parent.tty``) and its stdout is the link. The prompt cannot be chosen: it is
``Password: `` in some language, and PAM may have another. Until su has the password nobody but su and PAM writes there;
what the account's own shell writes afterwards could at most ask for the password of its own account.

The account's login shell runs one word, quoted for every shell. Whoever is root is asked nothing.
"""

import re

from contextree.connect import checked
from contextree.connect.accounts import (
    OTHER_PROMPTS,
    PLAIN_PROMPT,
    WRONG,
    checked_user,
    why,
)
from contextree.connect.dialogue import Dialogue
from contextree.connect.dialogue import prompt as prompt_rule
from contextree.connect.discover import WORDS
from contextree.connect.plan import PYTHON_QUOTED, Plan, checked_name, checked_phases, checked_secret, python_words
from contextree.connect.quote import quote
from contextree.core.wire.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Optional, Sequence, Tuple, Union

    from contextree.connect.dialogue import Rule
    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.su`` takes beside the user: what ``plan`` does."""

        password: Optional[str]
        login: bool
        shell: Optional[str]
        prompt: Optional[str]
        extra_args: Union[str, Sequence[str]]
        su: Union[str, Sequence[str]]
        python: Union[None, str, Sequence[str]]
        connect_timeout: Union[float, Dict[str, float]]
        name: Optional[str]


def plan(user: str = "root", password: "Optional[str]" = None, login: bool = False, shell: "Optional[str]" = None,
         prompt: "Optional[str]" = None, extra_args: "Union[str, Sequence[str]]" = (),
         su: "Union[str, Sequence[str]]" = "su", python: "Union[None, str, Sequence[str]]" = None,
         connect_timeout: "Union[float, Dict[str, float]]" = 30, name: "Optional[str]" = None) -> Plan:
    """A Plan for an interpreter of another account on the same machine.

    user             the account.
    password         that of this account. str or Secret. None: where su asks, that is an error.
    login            as after a login (-l): the account's shell reads its profile, in its home directory.
    shell            run this instead of the account's login shell (-s); su may refuse that to all but root.
    prompt           what su asks for the password, as a regular expression for all of the line; None: what Linux and
                     the BSDs have in fifty languages.
    extra_args       further words for su: a list, or str that is split at blanks.
    su               the program: a path, or several words.
    python           its interpreter: str, split as a shell would, or list of words. None: the first one found, see
                     ``contextree.connect.discover``.
    connect_timeout  seconds for each phase, or a dict with some of "connect", "login", "boot".
    name             the context's name, ``su.USER`` if not given.

    Raises UsageError for what cannot be passed on safely. Any thread.
    """
    secret = checked_secret(password, "password")
    words = python_words(python) or WORDS
    quote(words, tilde=True)                                 # now rather than when it is started
    argv = checked.program(su, "su") + (["-l"] if login else [])
    if shell is not None:
        argv += ["-s", checked.value(shell, "shell")]
    return Plan(argv + checked.further(extra_args, "extra_args") + [checked_user(user), "-c", "exec " + PYTHON_QUOTED],
                checked_name(name, "su." + user), "su", tty=True, handover=True,
                dialogue=Dialogue(rules(secret is not None, prompt), {"password": secret}), python=words,
                phases=checked_phases(connect_timeout), classify=classify)


def rules(has_password: bool, pattern: "Optional[str]") -> "Tuple[Rule, ...]":
    """The dialogue's table."""
    asked = PLAIN_PROMPT
    if pattern is not None:
        try:
            asked = checked.text(pattern, "prompt").encode()
            re.compile(asked)
        except re.error as error:
            raise UsageError("prompt=%r is no regular expression: %s" % (pattern, error)) from None
    if has_password:
        first = prompt_rule(asked, "reply", secret="password", text="su " + WRONG, then="answered")
    else:
        first = prompt_rule(asked, "fail", text="su asks for a password, and password= was not given")
    return (first,) + OTHER_PROMPTS


_ROWS = (
    (r"su: (?:user |Unknown id: |unknown user:? |unknown login:? |No passwd entry for user )'?([^\s']+)'?"
        r"(?: does not exist.*|: no such user| not found)?$", "ConnectError", "connect", "there is no account {1}"),
    (r"(?:su: )?(?:must be suid|.*must be (?:setuid|suid) root|can(?:not|'t) set (?:groups|user id))",
        "ConnectError", "start", "su cannot work here: {0}"),
    (r"su: (?:unrecognized option|invalid option|illegal option|unknown option|must be run from a terminal)",
        "ConnectError", "start", "su does not take this: {0}"),
    (r"This account is (?:currently )?not available", "ConnectError", "boot",
        "the account's login shell runs nothing ({0}); as root say shell='/bin/sh'"),
    (r".*account has expired|su: User account has expired", "AuthenticationError", "login",
        "the account has expired: {0}"),
    (r".*[Yy]ou are required to change your password|su: Authentication token is no longer valid|"
        r"su: .*[Aa]uthentication token (?:manipulation|lock)|.*[Pp]assword (?:has )?expired", "AuthenticationError",
        "login", "the password has expired and must be changed first: {0}"),
    (r"su: Account validation failure|.*account is locked due to", "AuthenticationError", "login",
        "the account is locked or has expired: {0}"),
    (r"su: (?:Permission denied|Sorry|[Aa]uthentication fail(?:ure|ed)|incorrect password)", "AuthenticationError",
        "login", "su " + WRONG),
)


def classify(method: str, status: "Optional[int]", output: str) -> "Tuple[str, str, str]":
    """Why su ended before HELLO: (error class name, message, phase). Pure; any text will do."""
    return why(method, _ROWS, (1,), status, output)
