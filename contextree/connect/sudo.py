"""Another account, by ``sudo`` (the one of sudo.ws, and sudo-rs).

sudo asks on its controlling terminal, which is ours, by a prompt that we choose (``-p``) and that holds some letters
which nobody can guess: only a prompt with them gets the password. sudo-rs puts the prompt of PAM behind it: ``[sudo:
contextree 0123: ] Password: ``, where it must be one for a password. Without a password sudo must not ask (``-n``).

stdin and stdout stay a clean pipe. The command is started by ``env``, as sudo clears the environment.

With ``login`` sudo gives the words to the account's login shell, with a backslash before what is no letter, digit, '_',
'-' or '$': a '$' would mean something there, so words that have one are written in octal (``dollarless``).
"""

import re

from contextree.connect import checked
from contextree.connect.accounts import (
    EXPIRED,
    OTHER_PROMPTS,
    WORD,
    WRONG,
    checked_user,
    why,
)
from contextree.connect.dialogue import Dialogue, prompt
from contextree.connect.discover import WORDS
from contextree.connect.plan import (
    PYTHON_SAFE,
    TOKEN,
    Plan,
    checked_name,
    checked_phases,
    checked_secret,
    python_words,
)
from contextree.core.wire.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional, Sequence, Tuple, Union

    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.sudo`` takes beside the user: what ``plan`` does."""

        password: Optional[str]
        login: bool
        preserve_env: Union[bool, Sequence[str]]
        set_home: bool
        group: Optional[str]
        role: Optional[str]
        type: Optional[str]
        tty: bool
        extra_args: Union[str, Sequence[str]]
        sudo: Union[str, Sequence[str]]
        python: Union[None, str, Sequence[str]]
        connect_timeout: Union[float, Dict[str, float]]
        name: Optional[str]


def plan(user: str = "root", password: "Optional[str]" = None, login: bool = False,
         preserve_env: "Union[bool, Sequence[str]]" = False, set_home: bool = True, group: "Optional[str]" = None,
         role: "Optional[str]" = None, type: "Optional[str]" = None, tty: bool = False,
         extra_args: "Union[str, Sequence[str]]" = (), sudo: "Union[str, Sequence[str]]" = "sudo",
         python: "Union[None, str, Sequence[str]]" = None, connect_timeout: "Union[float, Dict[str, float]]" = 30,
         name: "Optional[str]" = None) -> Plan:
    """A Plan for an interpreter of another account on the same machine.

    user             the account, or ``#`` and its number.
    password         that of the account which runs sudo (or what its sudoers asks for). str or Secret. None: sudo must
                     not ask.
    login            as after a login (-i): the account's shell reads its profile, in its home directory.
    preserve_env     keep the environment (-E), or a list of the variables to keep; sudoers must allow it.
    set_home         HOME is the account's (-H).
    group            the primary group (-g).
    role, type       of SELinux (-r, -t).
    tty              give sudo a terminal, for a sudoers with ``requiretty``; it has one anyway with a password.
    extra_args       further words for sudo: a list, or str that is split at blanks.
    sudo             the program: a path, or several words.
    python           its interpreter: str, split as a shell would, or list of words. None: the first one found, see
                     ``contextree.connect.discover``.
    connect_timeout  seconds for each phase, or a dict with some of "connect", "login", "boot".
    name             the context's name, ``sudo.USER`` if not given.

    Raises UsageError for what cannot be passed on safely. Any thread.
    """
    secret = checked_secret(password, "password")
    argv = checked.program(sudo, "sudo") + (["-n"] if secret is None else ["-p", "contextree %s: " % TOKEN])
    if login:
        argv += ["-i"]
    elif set_home:
        argv += ["-H"]
    argv += _kept(preserve_env, login)
    for option, value, what in ("-g", group, "group"), ("-r", role, "role"), ("-t", type, "type"):
        if value is not None:
            argv += [option, checked.value(value, what)]
    words = python_words(python) or WORDS
    argv += checked.further(extra_args, "extra_args") + ["-u", checked_user(user), "--"]
    return Plan(argv + (["exec"] if login else []) + [PYTHON_SAFE],
                checked_name(name, "sudo." + user.lstrip("#")), "sudo", tty=tty or secret is not None,
                dialogue=None if secret is None else Dialogue(_RULES, {"password": secret}),
                python=dollarless(words) if login else words, phases=checked_phases(connect_timeout),
                classify=classify)


def _kept(preserve_env: "Union[bool, Sequence[str]]", login: bool) -> "List[str]":
    if not preserve_env:
        return []
    if isinstance(preserve_env, bool):
        if login:
            raise UsageError("login=True starts with a new environment; preserve_env= can be a list of variables")
        return ["-E"]
    names = preserve_env.split(",") if isinstance(preserve_env, str) else list(preserve_env)
    for variable in names:
        if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", checked.text(variable, "preserve_env")):
            raise UsageError("preserve_env= has %r in it, which is no variable's name" % (variable,))
    return ["--preserve-env=" + ",".join(names)]


def dollarless(words: "Sequence[str]") -> "Sequence[str]":
    """The same command in words without ``$``; what comes behind them is passed on."""
    if not any("$" in word for word in words):
        return words
    text = "unset IFS;set +f;exec %s \"$@\"" % " ".join("'%s'" % word.replace("'", "'\\''") for word in words)
    octal = re.sub(r"[^A-Za-z0-9 _./;:,=(){}<>|&~*\[\]\"+-]", lambda match: "".join(
        "\\0%03o" % byte for byte in match.group().encode("utf-8", "surrogateescape")), text)
    # without IFS the text is one word, and with -f it is no pattern
    return "sh", "-c", "IFS=;set -f;eval `printf %%b '%s'`" % octal, "contextree"


_MARK = TOKEN.encode()
_RS = rb"\[sudo: [^\n]{0,99}contextree " + _MARK + rb": \] "
_OURS = (rb"(?!\[sudo)[^\n]{0,99}contextree " + _MARK + rb": "
         rb"|" + _RS + rb"[^\n]{0,30}" + WORD + rb"[^\n]{0,99}: ?")
_RULES = (
    prompt(rb"(?i:" + _RS + rb"[^\n]{0,99}\b(?:current|old|new|retype|aktuelle|neue)\b[^\n]{0,99}): ?", "fail",
           text=EXPIRED),
    prompt(_OURS, "reply", secret="password", text="sudo " + WRONG, then="answered"),
    # Not just any: a line of a banner may come in pieces, and looks like a prompt for a moment.
    prompt(rb"(?:\[sudo\] [^\n]{0,99}" + WORD + rb"[^\n]{0,99}|LDAP Password|Password for [^\s:]+@[^\s:]+): ?",
           "fail", state="login", text="sudo does not ask by our prompt but by another one, '{prompt}', so it gets no "
                                       "password; say 'Defaults passprompt_override' in its sudoers"),
) + OTHER_PROMPTS

_EXPIRED = ("the password of the account that runs sudo has expired and must be changed first, or the account has "
            "expired: {0}")
_SAYS = r"(?:sudo(?:-rs)?: )?"
_ROWS = (
    (_SAYS + r"(?:unknown user:? |user ')(\S*?)'?(?: not found)?$", "ConnectError", "connect",
        "there is no account {1}"),
    (_SAYS + r"(?:unknown group:? |group ')(\S*?)'?(?: not found)?$", "ConnectError", "connect",
        "there is no group {1}"),
    (_SAYS + r"(?:.*must be owned by uid 0|.*effective uid is not 0|.*no new privileges)", "ConnectError",
        "start", "sudo cannot work here: {0}"),
    (_SAYS + r"(?:unrecognized option|invalid option|unknown option|usage: sudo)", "ConnectError", "start",
        "sudo does not take its options: {0}"),
    (_SAYS + r"(?:Account (?:or password )?(?:is )?expired|[Pp]assword (?:has )?expired|your account has expired|"
        r".*[Yy]ou are required to change your password|unable to change expired password)", "AuthenticationError",
        "login", _EXPIRED),
    (_SAYS + r"account validation failure", "AuthenticationError", "login",
        "the account that runs sudo is locked or has expired"),
    (_SAYS + r".*account is locked due to", "AuthenticationError", "login", "the account is locked: {0}"),
    (_SAYS + r"(?:a password is required|interactive authentication is required|a terminal is required)",
        "AuthenticationError", "login", "sudo asks for a password, and password= was not given"),
    (_SAYS + r"sorry, you must have a tty", "AuthenticationError", "login",
        "sudo wants a terminal (requiretty in its sudoers); say tty=True"),
    (r".* is not in the sudoers file|.*I'm sorry .*I'm afraid", "AuthenticationError", "login",
        "this account may not use sudo: {0}"),
    (r"Sorry, user (\S+) (?:is not allowed to execute|may not run)", "AuthenticationError", "login",
        "sudo does not allow {1} to run this; its sudoers has to allow env, or ALL"),
    (_SAYS + r".*not allowed to (?:run|preserve|set)", "AuthenticationError", "login",
        "sudo does not allow this: {0}"),
    (_SAYS + r"(?:\d+ incorrect password|Maximum \d+ incorrect|[Aa]uthentication failed)", "AuthenticationError",
        "login", "sudo " + WRONG),
    (r"(?:sudo: )'?(\S+?)'?: command not found", "ConnectError", "boot",
        "the account has no command {1}; say by python= which Python to use"),
)


def classify(method: str, status: "Optional[int]", output: str) -> "Tuple[str, str, str]":
    """Why sudo ended before HELLO: (error class name, message, phase). Pure; any text will do."""
    return why(method, _ROWS, (1,), status, output)
