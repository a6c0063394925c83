"""In a working container, by ``buildah run``: while an image is being made.

Each ``run`` is a container process of its own; with ``isolation="chroot"`` it shares the processes of the machine. A
Python is lent by a read-only mount, ``buildah run --volume``, which leaves the empty directory that it was mounted on;
``Plan.after`` removes that.
"""

from contextree.connect import checked, reasons
from contextree.connect import container as common
from contextree.connect.plan import PYTHON, Plan, checked_name, checked_phases
from contextree.core.first_stage import SAFE
from contextree.core.wire.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Optional, Sequence, Tuple, Union

    from _typeshed import StrPath

    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.buildah`` takes beside the target: what ``plan`` does."""

        user: Union[None, int, str]
        workdir: Optional[str]
        isolation: Optional[str]
        buildah: Union[str, Sequence[str]]
        python: Union[None, str, Sequence[str]]
        lend_python: Optional[StrPath]
        connect_timeout: Union[float, Dict[str, float]]
        name: Optional[str]

_RMDIR = ('c=$1 d=$2\nshift 2\nm=$("$@" mount "$c") || exit\ns=0\n[ ! -d "$m$d" ] || rmdir "$m$d" || s=$?\n'
          '"$@" umount "$c" >/dev/null\nexit $s')


def plan(container: str, user: "Union[None, int, str]" = None, workdir: "Optional[str]" = None,
         isolation: "Optional[str]" = None, buildah: "Union[str, Sequence[str]]" = "buildah",
         python: "Union[None, str, Sequence[str]]" = None, lend_python: "Optional[StrPath]" = None,
         connect_timeout: "Union[float, Dict[str, float]]" = 30, name: "Optional[str]" = None) -> Plan:
    """A Plan for an interpreter in the working `container` (of ``buildah from``).

    container        its name or id.
    user             account there, by name or number, with ``:group`` if wanted; None: the container's.
    workdir          directory to start in; None: the container's.
    isolation        "oci", "rootless" or "chroot", as for buildah run --isolation; None: buildah's own choice.
    buildah          the program: a path, or several words, such as ``["buildah", "--root", "/srv/store"]``.
    python           the interpreter there: str, split as a shell would, or list of words. None: the first one found,
                     see ``contextree.connect.discover``, which needs a ``sh`` there.
    lend_python      directory of a Python, on the machine where buildah runs, that is mounted into the container for as
                     long as the context lives; ``python`` is then its program in there, ``bin/python3`` if not given.
    connect_timeout  seconds for each phase, or a dict with some of "connect", "login", "boot".
    name             the context's name, ``buildah.CONTAINER`` if not given.

    Raises UsageError for what cannot be passed on safely. Any thread.
    """
    checked.target(container, "container")
    tool = checked.program(buildah, "buildah")
    # or it says hundreds of times that the interpreter, which has ended, reads no more
    words = ["--log-level", "fatal", "run", "--env", "=".join(SAFE)]
    if isolation is not None:
        words += ["--isolation", checked.value(isolation, "isolation")]
    if user is not None:
        words += ["--user", checked.value(user, "user")]
    if workdir is not None:
        words += ["--workingdir", checked.value(workdir, "workdir")]
    after = []
    if lend_python is not None:
        words += ["--volume", "%s:%s:ro" % (mountable(lend_python), common.LENT)]
        after.append(["/bin/sh", "-c", _RMDIR, "contextree", container, common.LENT] + tool)
    return Plan(tool + words + [container, "--", PYTHON], checked_name(name, "buildah.%s" % container), "buildah",
                python=common.interpreter(python, lend_python), phases=checked_phases(connect_timeout), after=after,
                classify=classify)


def mountable(path: "StrPath") -> str:
    """A path for ``--volume``, which ends it at a colon; raises UsageError."""
    text = common.checked_path(path, "lend_python")
    if ":" in text or not text.startswith("/"):
        raise UsageError("lend_python=%r: what is mounted has an absolute path without a colon" % (text,))
    return text


# -- why it failed

_RULES = (
    (r"Error: reading build container \"?([^\s\"]+)\"?: container not known", "ConnectError", "connect",
     "there is no working container {1}"),
    (r".*fork/exec (/\S+): no such file or directory", "ConnectError", "boot",
     "the container has no {1}, or its loader is missing there; say which Python by python=, or lend one by "
     "lend_python="),
    (r"Error: determining run uid: .*looking up (user|group) \"?([^\s\"]+)", "AuthenticationError", "login",
     "there is no {1} {2} in the container"),
    (r"Error: unrecognized isolation type (.*)", "ConnectError", "start", "buildah knows no isolation {1}"),
    (r"Error: .*(?:checking on|getting status of|statfs) .*?(/\S+).*: no such file or directory", "ConnectError",
     "start", "there is nothing at {1} that could be lent (lend_python=)"),
    (r"Error: (?:mkdir|open|.*mount).*: (?:permission denied|operation not permitted)", "AuthenticationError", "login",
     "this account may not use buildah's store: {0}"),
    (r"Error: unknown (?:shorthand )?flag.*", "ConnectError", "start", "buildah does not take its options: {0}"),
)


def classify(method: str, status: "Optional[int]", output: str) -> "Tuple[str, str, str]":
    """Why ``buildah run`` ended before HELLO: (error class name, message, phase). Pure; any text will do."""
    found = None
    if status != 137:
        found = reasons.explained(_RULES, output) or common.not_run(output, "the working container")
    return found or common.ended(status, output, "the working container")
