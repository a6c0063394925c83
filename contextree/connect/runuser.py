"""Another account, from root, by ``runuser``: nothing is asked, and accounts whose login shell runs nothing will do."""

from contextree.connect import checked
from contextree.connect.accounts import checked_user, why
from contextree.connect.discover import WORDS
from contextree.connect.plan import PYTHON_QUOTED, Plan, checked_name, checked_phases, python_words
from contextree.connect.quote import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Optional, Sequence, Tuple, Union

    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.runuser`` takes beside the user: what ``plan`` does."""

        login: bool
        shell: Optional[str]
        group: Optional[str]
        extra_args: Union[str, Sequence[str]]
        runuser: Union[str, Sequence[str]]
        python: Union[None, str, Sequence[str]]
        connect_timeout: Union[float, Dict[str, float]]
        name: Optional[str]


def plan(user: str, login: bool = False, shell: "Optional[str]" = "/bin/sh", group: "Optional[str]" = None,
         extra_args: "Union[str, Sequence[str]]" = (), runuser: "Union[str, Sequence[str]]" = "runuser",
         python: "Union[None, str, Sequence[str]]" = None, connect_timeout: "Union[float, Dict[str, float]]" = 30,
         name: "Optional[str]" = None) -> Plan:
    """A Plan for an interpreter of another account on the same machine; only root may.

    user             the account.
    login            as after a login (-l): the shell reads its profile, in the home directory.
    shell            what runs the command (-s); None: the account's login shell.
    group            the primary group (-g).
    extra_args       further words for runuser: a list, or str that is split at blanks.
    runuser          the program: a path, or several words.
    python           its interpreter: str, split as a shell would, or list of words. None: the first one found, see
                     ``contextree.connect.discover``.
    connect_timeout  seconds for each phase, or a dict with some of "connect", "boot".
    name             the context's name, ``runuser.USER`` if not given.

    Raises UsageError for what cannot be passed on safely. Any thread.
    """
    words = python_words(python) or WORDS
    quote(words, tilde=True)                                 # now rather than when it is started
    argv = checked.program(runuser, "runuser") + (["-l"] if login else [])
    if shell is not None:
        argv += ["-s", checked.value(shell, "shell")]
    if group is not None:
        argv += ["-g", checked_user(group, "group")]
    return Plan(argv + checked.further(extra_args, "extra_args") + [checked_user(user), "-c", "exec " + PYTHON_QUOTED],
                checked_name(name, "runuser." + user), "runuser", python=words, phases=checked_phases(connect_timeout),
                classify=classify)


_ROWS = (
    (r"runuser: (?:user |failed to look up user )'?([^\s']+)", "ConnectError", "connect", "there is no account {1}"),
    (r"runuser: group '?([^\s']+?)'? does not exist", "ConnectError", "connect", "there is no group {1}"),
    (r"runuser: may not be used by non-root", "AuthenticationError", "login", "only root may use runuser"),
    (r"runuser: (?:unrecognized option|invalid option)", "ConnectError", "start",
        "runuser does not take its options: {0}"),
    (r"This account is (?:currently )?not available", "ConnectError", "boot",
        "the account's login shell runs nothing ({0}); say shell='/bin/sh'"),
)


def classify(method: str, status: "Optional[int]", output: str) -> "Tuple[str, str, str]":
    """Why runuser ended before HELLO: (error class name, message, phase). Pure; any text will do."""
    return why(method, _ROWS, (1,), status, output)
