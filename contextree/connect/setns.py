"""In the namespaces of a process, or of the first process of a container: what ``nsenter`` is for.

It needs nothing in the container but a Python, and no daemon's consent. The launcher is ``contextree.parent.enter``; it
finds the process, holds on to it, enters, and becomes the interpreter there.
"""

from contextree.connect import checked
from contextree.connect.inside import interpreter, lending, verdict
from contextree.connect.plan import HERE, LAUNCHER, PYTHON, Plan, checked_name, checked_phases
from contextree.core.wire.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional, Sequence, Tuple, Union

    from _typeshed import StrPath

    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.setns`` takes beside the target: what ``plan`` does."""

        kind: Optional[str]
        namespaces: Optional[Sequence[str]]
        user: Union[None, int, str]
        group: Union[None, int, str]
        clear_env: bool
        python: Union[None, str, Sequence[str]]
        lend_python: Optional[StrPath]
        tool: Optional[str]
        nsenter: Union[str, Sequence[str]]
        program: Union[None, str, Sequence[str]]
        lxcpath: Optional[StrPath]
        project: Optional[str]
        connect_timeout: Union[float, Dict[str, float]]
        name: Optional[str]

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
# kind -> (program, words that ask it for the pid, what it answers)
_NUMBER = r"^\s*(?:true )?(\d+)\s*$"
_INSPECT = ("inspect", "--type=container", "--format={{.State.Running}} {{.State.Pid}}", "--", "{target}")
_QUERY = ("query", "/1.0/instances/{target}/state{project}")
KINDS = {
    "docker": ("docker", _INSPECT, _NUMBER),
    "podman": ("podman", tuple(word for word in _INSPECT if word != "--"), _NUMBER),
    "lxc": ("lxc-info", ("-pH", "-n", "{target}"), _NUMBER),
    "lxd": ("lxc", _QUERY, r'"pid": *(\d+)'),
    "incus": ("incus", _QUERY, r'"pid": *(\d+)'),
    "machinectl": ("machinectl", ("show", "--property=Leader", "--", "{target}"), r"(?m)^Leader=(\d+)$"),
}
KINDS["nspawn"] = KINDS["machinectl"]


def plan(target: "Union[int, str]", kind: "Optional[str]" = None, namespaces: "Optional[Sequence[str]]" = None,
         user: "Union[None, int, str]" = None, group: "Union[None, int, str]" = None, clear_env: bool = True,
         python: "Union[None, str, Sequence[str]]" = None, lend_python: "Optional[StrPath]" = None,
         tool: "Optional[str]" = None, nsenter: "Union[str, Sequence[str]]" = "nsenter",
         program: "Union[None, str, Sequence[str]]" = None,
         lxcpath: "Optional[StrPath]" = None, project: "Optional[str]" = None,
         connect_timeout: "Union[float, Dict[str, float]]" = 30, name: "Optional[str]" = None) -> Plan:
    """A Plan for an interpreter in the namespaces of `target`.

    target           the number of a process, or with ``kind`` the name of a container.
    kind             whose container: "docker", "podman", "lxc", "lxd", "incus", "nspawn" or "machinectl" (the same).
    namespaces       which to enter: some of "cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts". None: all that
                     are others than ours. Its root directory is taken with "mnt".
    user, group      whom to become there: a name of the account files there, or a number. None: root where a user
                     namespace was entered, else who we are.
    clear_env        give it the environment of the target process. False: that of the context that starts it.
    python           the interpreter there: str, split as a shell would, or list of words. None: the first one found.
    lend_python      path of a Python here, to copy there for as long as the context lives: see docs/methods.
    tool             "python": by a launcher of ours. "nsenter": by that program. None: the former, or the latter where
                     the Python that starts it can do neither ``os.setns`` (3.12) nor ctypes.
    nsenter          the program for it: a path, or several words.
    program          that which is asked for the container: a path, or several words (``["podman", "--root", ...]``).
    lxcpath          for kind="lxc": where containers are. project: for "lxd" and "incus".
    connect_timeout  seconds for each phase, or a dict with some of "connect", "login", "boot".
    name             the context's name, ``setns.TARGET`` if not given.

    Raises UsageError. Any thread.
    """
    where = process_words(target, kind, program, lxcpath, project)
    before, after = lending(lend_python, where)
    argv = [HERE, "-ISc", LAUNCHER + "enter"] + where
    if namespaces is not None:
        for one in [namespaces] if isinstance(namespaces, str) else namespaces:
            if one not in NAMESPACES:
                raise UsageError("namespaces= wants some of %s, not %r" % (", ".join(NAMESPACES), one))
        argv.append("namespaces=" + ",".join([namespaces] if isinstance(namespaces, str) else namespaces))
    if tool not in (None, "python", "nsenter"):
        raise UsageError("tool= is 'python', 'nsenter' or None, not %r" % (tool,))
    if tool == "nsenter" or nsenter != "nsenter":
        argv += ["tool=" + word for word in checked.program(nsenter, "nsenter")]
    argv += (["env=target"] if clear_env else []) + ["--", PYTHON]
    return Plan(argv, checked_name(name, "setns.%s" % target), "setns", classify=classify,
                python=interpreter(python, user, group, lend_python), phases=checked_phases(connect_timeout),
                before=before, after=after)


def process_words(target: "Union[int, str]", kind: "Optional[str]", program: "Union[None, str, Sequence[str]]",
                  lxcpath: "Optional[StrPath]", project: "Optional[str]") -> "List[str]":
    """The words that tell the launcher which process it is."""
    if kind is None:
        if isinstance(target, str) and target.isdigit():
            target = int(target)
        if isinstance(target, bool) or not isinstance(target, int) or target <= 0:
            raise UsageError("the target is the number of a process, or a name with kind=, not %r" % (target,))
        return ["pid=%d" % target]
    if kind not in KINDS:
        raise UsageError("kind= is one of %s, not %r" % (", ".join(sorted(KINDS)), kind))
    default, words, answer = KINDS[kind]
    container = checked.target(str(target), "container")
    if project is not None:
        checked.target(project, "project")
    query = "?project=" + project if project is not None else ""
    asks = checked.program(default if program is None else program, "program")
    asks += ["-P", checked.path(lxcpath, "lxcpath")] if lxcpath is not None else []
    asks += [word.replace("{project}", query).replace("{target}", container) for word in words]
    return ["ask=" + word for word in asks] + ["answer=" + answer]


_ROWS = (
    (r"\S*nsenter: failed to execute (.*)", "boot", "{1}; say which Python by python=, or lend one by lend_python="),
    (r"\S*nsenter: (?:unrecognized|invalid) option.*", "start", "nsenter does not take its options: {0}"),
    (r"\S*nsenter: .*", "connect", "{0}"),
)


def classify(method: str, status: "Optional[int]", output: str) -> "Tuple[str, str, str]":
    """Why the launcher ended before HELLO: (error class name, message, phase)."""
    return verdict("setns", status, output, _ROWS)
