"""In a directory tree or image, by ``systemd-nspawn``: a container for this context alone, which ends with it."""

from contextree.connect import checked
from contextree.connect.inside import (
    SAFE_PAIR,
    interpreter,
    lending,
    verdict,
)
from contextree.connect.plan import PYTHON, TOKEN, Plan, checked_name, checked_phases
from contextree.core.wire.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional, Sequence, Tuple, Union

    from _typeshed import StrPath

    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.nspawn`` takes beside the target: what ``plan`` does."""

        image: Optional[bool]
        machine: Optional[str]
        user: Union[None, int, str]
        group: Union[None, int, str]
        bind: Sequence[str]
        bind_ro: Sequence[str]
        register: bool
        init: bool
        python: Union[None, str, Sequence[str]]
        lend_python: Optional[StrPath]
        systemd_nspawn: Union[str, Sequence[str]]
        extra_args: Sequence[str]
        connect_timeout: Union[float, Dict[str, float]]
        name: Optional[str]

# Where a lent Python is mounted: in a file system of nspawn's own, so that nothing of it stays in the tree.
PLACE = "/run/contextree-" + TOKEN


def plan(directory: "StrPath", image: "Optional[bool]" = None, machine: "Optional[str]" = None,
         user: "Union[None, int, str]" = None, group: "Union[None, int, str]" = None, bind: "Sequence[str]" = (),
         bind_ro: "Sequence[str]" = (), register: bool = True, init: bool = True,
         python: "Union[None, str, Sequence[str]]" = None, lend_python: "Optional[StrPath]" = None,
         systemd_nspawn: "Union[str, Sequence[str]]" = "systemd-nspawn", extra_args: "Sequence[str]" = (),
         connect_timeout: "Union[float, Dict[str, float]]" = 30, name: "Optional[str]" = None) -> Plan:
    """A Plan for an interpreter in a container of its own, whose root is `directory`.

    directory        a directory tree, or a file with a disk image.
    image            whether it is an image; None: when its name ends in ``.raw``.
    machine          the container's name; None: that of the directory.
    user, group      whom to become there: a name of the account files there, or a number. None: root.
    bind, bind_ro    what to mount there too: ``SOURCE`` or ``SOURCE:PLACE``, each.
    register         tell systemd-machined of it, in a scope of its own. False: for a machine where systemd does not
                     run, and for a program that is a service (``--register=no --keep-unit``).
    init             have a small init as process 1, which reaps. False: the interpreter is process 1.
    python           the interpreter there: str, split as a shell would, or list of words. None: the first one found.
    lend_python      path of a Python here, to mount there: see docs/methods.
    systemd_nspawn   the program: a path, or several words.
    extra_args       further words for it: ``["--private-network", "--ephemeral", "--read-only"]``.
    connect_timeout  seconds for each phase, or a dict with some of "connect", "login", "boot".
    name             the context's name, ``nspawn.`` and the last part of the directory if not given.

    Raises UsageError. Any thread.
    """
    path = checked.path(directory, "a directory")
    last = machine or path.rstrip("/").rpartition("/")[2] or "root"
    argv = checked.program(systemd_nspawn, "systemd_nspawn") + ["--quiet", "--pipe"]
    argv += ["--as-pid2"] if init else []
    argv += [] if register else ["--register=no", "--keep-unit"]
    argv.append(("--image=" if image or (image is None and path.endswith(".raw")) else "--directory=") + path)
    if machine is not None:
        argv.append("--machine=" + checked.target(machine, "machine"))
    argv += _binds("--bind=", bind) + _binds("--bind-ro=", bind_ro)
    if lend_python is not None:
        argv.append("--bind-ro=%s:%s" % (checked.path(lend_python, "lend_python").replace(":", "\\:"), PLACE))
    argv += ["--setenv=" + SAFE_PAIR] + checked.further(extra_args, "extra_args") + ["--", PYTHON]
    return Plan(argv, checked_name(name, "nspawn." + last), "nspawn", classify=classify,
                python=interpreter(python, user, group, lend_python, PLACE), phases=checked_phases(connect_timeout))


def _binds(option: str, values: "Sequence[str]") -> "List[str]":
    if isinstance(values, str):
        raise UsageError("%s wants a list of SOURCE or SOURCE:PLACE, not a str" % option.strip("-=").replace("-", "_"))
    return [option + checked.path(value, "bind") for value in values]


_ROWS = (
    (r"Failed to resolve path (.*): No such file.*|No image for machine '(.*)'\.|"
     r"(?:Directory|Image file|Path) (\S+) (?:doesn't exist|does not exist).*|Failed to (?:stat|open) .*No such file.*",
     "connect", "there is no such tree or image: {0}"),
    (r"(?:Directory tree|Disk image|Image) .* is currently busy|.*(?:Machine|machine) .* already exists.*|"
     r"Failed to register machine: .*exists", "connect", "another container has it: {0}"),
    (r"Need to be root|.*Operation not permitted.*", "connect", "systemd-nspawn needs root: {0}"),
    (r"Failed to open system bus.*|Failed to connect to (?:system )?bus.*", "connect",
     "systemd does not run on this machine: {0}; say register=False"),
    (r".*--keep-unit may not be used.*", "start", "{0}; say register=True"),
    (r"Directory \S+ (?:doesn't|does not) look like (?:it has )?an OS tree.*|.*doesn't look like an OS root .*|"
     r".*(?:Refusing|refusing) to (?:start|run) container.*", "connect", "{0}"),
    (r"execv\((.*)\) failed: (.*)", "boot", "{1} cannot be run in the container ({2}); say which Python by python=, "
                                            "or lend one by lend_python="),
    (r"systemd-nspawn: (?:unrecognized|invalid|ambiguous) option.*|Failed to parse .*", "start",
     "systemd-nspawn does not take its options: {0}"),
)


def classify(method: str, status: "Optional[int]", output: str) -> "Tuple[str, str, str]":
    """Why systemd-nspawn ended before HELLO: (error class name, message, phase)."""
    return verdict("systemd-nspawn", status, output, _ROWS)
