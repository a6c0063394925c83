"""In another root directory, by ``chroot``: its own files, and all else of the machine."""

from contextree.connect import checked
from contextree.connect.inside import interpreter, lending, verdict
from contextree.connect.plan import PYTHON, Plan, checked_name, checked_phases
from contextree.core.wire.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Optional, Sequence, Tuple, Union

    from _typeshed import StrPath

    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.chroot`` takes beside the target: what ``plan`` does."""

        user: Union[None, int, str]
        group: Union[None, int, str]
        userspec: Optional[str]
        python: Union[None, str, Sequence[str]]
        lend_python: Optional[StrPath]
        chroot: Union[str, Sequence[str]]
        connect_timeout: Union[float, Dict[str, float]]
        name: Optional[str]


def plan(directory: "StrPath", user: "Union[None, int, str]" = None, group: "Union[None, int, str]" = None,
         userspec: "Optional[str]" = None, python: "Union[None, str, Sequence[str]]" = None,
         lend_python: "Optional[StrPath]" = None, chroot: "Union[str, Sequence[str]]" = "chroot",
         connect_timeout: "Union[float, Dict[str, float]]" = 30, name: "Optional[str]" = None) -> Plan:
    """A Plan for an interpreter whose root directory is `directory`.

    user, group      whom to become there: a name of the account files in the tree, or a number. None: who we are.
    userspec         the same as ``USER:GROUP``, as for ``chroot --userspec``.
    python           the interpreter there: str, split as a shell would, or list of words. None: the first one found.
    lend_python      path of a Python here, to copy there for as long as the context lives: see docs/methods.
    chroot           the program: a path, or several words (``["sudo", "-n", "chroot"]``).
    connect_timeout  seconds for each phase, or a dict with some of "connect", "login", "boot".
    name             the context's name, ``chroot.`` and the last part of the directory if not given.

    Raises UsageError. Any thread.
    """
    path = checked.path(directory, "a directory")
    if userspec is not None:
        if user is not None or group is not None:
            raise UsageError("userspec= is user= and group= in one")
        user, _, text = userspec.partition(":")
        group = text or None
    before, after = lending(lend_python, ["root=" + path])
    argv = checked.program(chroot, "chroot") + [path, PYTHON]
    return Plan(argv, checked_name(name, "chroot." + (path.rstrip("/").rpartition("/")[2] or "root")), "chroot",
                classify=classify, python=interpreter(python, user, group, lend_python),
                phases=checked_phases(connect_timeout), before=before, after=after)


_ROWS = (
    (r"\S*chroot: .*(?:change root directory to .*|chroot\(.*): (?:No such file|Not a directory).*", "connect",
     "there is no such directory: {0}"),
    (r"\S*chroot: .*(?:Operation not permitted|Permission denied).*", "connect", "chroot needs root: {0}"),
    (r"\S*chroot: (?:failed to run command|can't execute|cannot run command) (.*)", "boot",
     "the tree has no {1}; say which Python by python=, or lend one by lend_python="),
    (r"\S*chroot: (?:unrecognized|invalid) option.*", "start", "chroot does not take its options: {0}"),
)


def classify(method: str, status: "Optional[int]", output: str) -> "Tuple[str, str, str]":
    """Why chroot ended before HELLO: (error class name, message, phase)."""
    return verdict("chroot", status, output, _ROWS)
