"""In an instance of Incus, by ``incus exec``."""

from contextree.connect import checked
from contextree.connect.lxd import exec_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Optional, Sequence, Union

    from _typeshed import StrPath

    from contextree.connect.options import GrowOptions
    from contextree.connect.plan import Plan

    class Options(GrowOptions, total=False):
        """What ``Grower.incus`` takes beside the target: what ``plan`` does."""

        remote: Optional[str]
        project: Optional[str]
        user: Union[None, int, str]
        group: Union[None, int, str]
        python: Union[None, str, Sequence[str]]
        lend_python: Optional[StrPath]
        incus: Union[str, Sequence[str]]
        extra_args: Sequence[str]
        connect_timeout: Union[float, Dict[str, float]]
        name: Optional[str]


def plan(instance: str, remote: "Optional[str]" = None, project: "Optional[str]" = None,
         user: "Union[None, int, str]" = None, group: "Union[None, int, str]" = None,
         python: "Union[None, str, Sequence[str]]" = None, lend_python: "Optional[StrPath]" = None,
         incus: "Union[str, Sequence[str]]" = "incus", extra_args: "Sequence[str]" = (),
         connect_timeout: "Union[float, Dict[str, float]]" = 30, name: "Optional[str]" = None) -> "Plan":
    """A Plan for an interpreter in `instance`, a container or a virtual machine that runs.

    instance         its name, or ``remote:name``.
    remote           the server, by the name that ``incus remote`` knows it by; None: the default one.
    project          the project; None: the current one.
    user, group      whom to become there: a name of the account files there, or a number. None: root.
    python           the interpreter there: str, split as a shell would, or list of words. None: the first one found.
    lend_python      path of a Python here, to copy there for as long as the context lives: see docs/methods.
    incus            the program: a path, or several words.
    extra_args       further words for ``incus exec``, before the instance: ``["--cwd", "/srv"]``.
    connect_timeout  seconds for each phase, or a dict with some of "connect", "login", "boot".
    name             the context's name, ``incus.INSTANCE`` if not given.

    Raises UsageError. Any thread.
    """
    return exec_plan("incus", checked.program(incus, "incus"), instance, remote, project, user, group, python,
                     lend_python, extra_args, connect_timeout, name)
