"""In a container of classic LXC, by ``lxc-attach``.

``lxc-attach`` gives what it has as stdin, stdout and stderr to the container: it changes owner and mode of each that is
a file or a terminal. Here they are a socket and a pipe that nobody else has (tests/methods/test_lxc.py looks).
"""

from contextree.connect import checked
from contextree.connect.inside import (
    SAFE_PAIR,
    interpreter,
    lending,
    verdict,
)
from contextree.connect.plan import PYTHON, Plan, checked_name, checked_phases
from contextree.connect.setns import process_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Optional, Sequence, Tuple, Union

    from _typeshed import StrPath

    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.lxc`` takes beside the target: what ``plan`` does."""

        lxcpath: Optional[StrPath]
        user: Union[None, int, str]
        group: Union[None, int, str]
        clear_env: bool
        python: Union[None, str, Sequence[str]]
        lend_python: Optional[StrPath]
        lxc_attach: Union[str, Sequence[str]]
        extra_args: Sequence[str]
        connect_timeout: Union[float, Dict[str, float]]
        name: Optional[str]


def plan(container: str, lxcpath: "Optional[StrPath]" = None, user: "Union[None, int, str]" = None,
         group: "Union[None, int, str]" = None, clear_env: bool = True,
         python: "Union[None, str, Sequence[str]]" = None, lend_python: "Optional[StrPath]" = None,
         lxc_attach: "Union[str, Sequence[str]]" = "lxc-attach", extra_args: "Sequence[str]" = (),
         connect_timeout: "Union[float, Dict[str, float]]" = 30, name: "Optional[str]" = None) -> Plan:
    """A Plan for an interpreter in `container`, which runs.

    lxcpath          where containers are, if not in LXC's default place (lxc-attach -P).
    user, group      whom to become there: a name of the container's account files, or a number. None: root.
    clear_env        give it a clean environment. False: that of the context that starts it (lxc-attach's default).
    python           the interpreter there: str, split as a shell would, or list of words. None: the first one found.
    lend_python      path of a Python here, to copy there for as long as the context lives: see docs/methods.
    lxc_attach       the program: a path, or several words.
    extra_args       further words for it, before the command: ``["--elevated-privileges=CGROUP"]``.
    connect_timeout  seconds for each phase, or a dict with some of "connect", "login", "boot".
    name             the context's name, ``lxc.CONTAINER`` if not given.

    Raises UsageError. Any thread.
    """
    argv = checked.program(lxc_attach, "lxc_attach")
    info = [word[:-6] + "info" if word.endswith("lxc-attach") else word for word in argv]
    before, after = lending(lend_python, process_words(checked.target(container, "container"), "lxc", info, lxcpath,
                                                       None))
    if lxcpath is not None:
        argv += ["-P", checked.path(lxcpath, "lxcpath")]
    argv += ["-n", checked.target(container, "container")]
    argv += ["--clear-env", "--set-var", "HOME=/root"] if clear_env else []
    argv += ["--set-var", SAFE_PAIR] + checked.further(extra_args, "extra_args") + ["--", PYTHON]
    return Plan(argv, checked_name(name, "lxc." + container), "lxc", classify=classify,
                python=interpreter(python, user, group, lend_python), phases=checked_phases(connect_timeout),
                before=before, after=after)


_ROWS = (
    (r"lxc-attach: .*Failed to get init pid", "connect",
     "there is no such container that runs; look at lxc-ls -f, and at lxcpath="),
    (r"lxc-attach: .*(?:Permission denied|Operation not permitted).*|Insufficent privileges.*", "connect",
     "lxc-attach may not enter it: {0}"),
    (r"lxc-attach: .*Failed to exec \"([^\"]*)\"", "boot",
     "there is no {1} in the container; say which Python by python=, or lend one by lend_python="),
    (r"lxc-attach: (?:unrecognized|invalid) option.*|Usage: lxc-attach", "start",
     "lxc-attach does not take its options: {0}"),
)


def classify(method: str, status: "Optional[int]", output: str) -> "Tuple[str, str, str]":
    """Why lxc-attach ended before HELLO: (error class name, message, phase)."""
    return verdict("lxc-attach", status, output, _ROWS)
