"""In a FreeBSD jail, by ``jexec``."""

from contextree.connect import checked
from contextree.connect.discover import WORDS
from contextree.connect.inside import checked_account, verdict
from contextree.connect.plan import PYTHON_SAFE, Plan, checked_name, checked_phases, python_words
from contextree.core.wire.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Optional, Sequence, Tuple, Union

    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.jail`` takes beside the target: what ``plan`` does."""

        user: Union[None, int, str]
        host_user: Union[None, int, str]
        clear_env: bool
        python: Union[None, str, Sequence[str]]
        jexec: Union[str, Sequence[str]]
        connect_timeout: Union[float, Dict[str, float]]
        name: Optional[str]


def plan(jail: "Union[int, str]", user: "Union[None, int, str]" = None, host_user: "Union[None, int, str]" = None,
         clear_env: bool = True, python: "Union[None, str, Sequence[str]]" = None,
         jexec: "Union[str, Sequence[str]]" = "jexec",
         connect_timeout: "Union[float, Dict[str, float]]" = 30, name: "Optional[str]" = None) -> Plan:
    """A Plan for an interpreter in `jail`, which runs.

    jail             its name or number.
    user             whom to become, by the accounts in the jail (jexec -U). None: root.
    host_user        the same by the accounts of the host (jexec -u). Not both.
    clear_env        give it a clean environment (jexec -l). False: that of the context that starts it.
    python           the interpreter there: str, split as a shell would, or list of words. None: the first one found.
    jexec            the program: a path, or several words.
    connect_timeout  seconds for each phase, or a dict with some of "connect", "login", "boot".
    name             the context's name, ``jail.JAIL`` if not given.

    Raises UsageError. Any thread.
    """
    target = str(jail) if isinstance(jail, int) and not isinstance(jail, bool) and jail > 0 else checked.target(
        jail, "jail")
    inner, outer = checked_account(user, "user"), checked_account(host_user, "host_user")
    if inner is not None and outer is not None:
        raise UsageError("user= is of the jail, host_user= of the host: give one")
    argv = checked.program(jexec, "jexec") + (["-l"] if clear_env else [])
    if inner is not None:
        argv += ["-U", inner]
    if outer is not None:
        argv += ["-u", outer]
    return Plan(argv + [target, PYTHON_SAFE], checked_name(name, "jail." + target), "jail", classify=classify,
                python=python_words(python) or WORDS, phases=checked_phases(connect_timeout))


_ROWS = (
    (r"jexec: jail.*(?:not found|Invalid argument|No such process)$",
     "connect", "there is no such jail that runs; look at jls: {0}"),
    (r"jexec: (?:jail_attach.*|.*)Operation not permitted", "connect", "jexec needs root: {0}"),
    (r"jexec: (?:(?:getpwnam|.*no such user).*)", "login", "there is no such user: {0}"),
    (r"(?:jexec|env): (?:execvp|exec)?:? ?(.*): (?:No such file or directory|not found).*", "boot",
     "there is no {1} in the jail; say which Python by python="),
    (r"usage: jexec|jexec: (?:illegal|unknown) option.*", "start", "jexec does not take its options: {0}"),
)


def classify(method: str, status: "Optional[int]", output: str) -> "Tuple[str, str, str]":
    """Why jexec ended before HELLO: (error class name, message, phase)."""
    return verdict("jexec", status, output, _ROWS)
