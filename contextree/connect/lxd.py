"""In an instance of LXD, by ``lxc exec``; ``incus`` has the same client with another name, and the same plan."""

from contextree.connect import checked
from contextree.connect.inside import SAFE_PAIR, interpreter, lending, verdict
from contextree.connect.plan import PYTHON, Plan, checked_name, checked_phases
from contextree.connect.setns import process_words
from contextree.core.wire.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Optional, Sequence, Tuple, Union

    from _typeshed import StrPath

    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.lxd`` takes beside the target: what ``plan`` does."""

        remote: Optional[str]
        project: Optional[str]
        user: Union[None, int, str]
        group: Union[None, int, str]
        python: Union[None, str, Sequence[str]]
        lend_python: Optional[StrPath]
        lxc: Union[str, Sequence[str]]
        extra_args: Sequence[str]
        connect_timeout: Union[float, Dict[str, float]]
        name: Optional[str]


def plan(instance: str, remote: "Optional[str]" = None, project: "Optional[str]" = None,
         user: "Union[None, int, str]" = None, group: "Union[None, int, str]" = None,
         python: "Union[None, str, Sequence[str]]" = None, lend_python: "Optional[StrPath]" = None,
         lxc: "Union[str, Sequence[str]]" = "lxc", extra_args: "Sequence[str]" = (),
         connect_timeout: "Union[float, Dict[str, float]]" = 30, name: "Optional[str]" = None) -> Plan:
    """A Plan for an interpreter in `instance`, a container or a virtual machine that runs.

    instance         its name, or ``remote:name``.
    remote           the server, by the name that ``lxc remote`` knows it by; None: the default one.
    project          the project; None: the current one.
    user, group      whom to become there: a name of the account files there, or a number. None: root.
    python           the interpreter there: str, split as a shell would, or list of words. None: the first one found.
    lend_python      path of a Python here, to copy there for as long as the context lives: see docs/methods.
    lxc              the program: a path, or several words, such as ``["env", "LXD_DIR=/srv/lxd", "lxc"]``.
    extra_args       further words for ``lxc exec``, before the instance: ``["--cwd", "/srv"]``.
    connect_timeout  seconds for each phase, or a dict with some of "connect", "login", "boot".
    name             the context's name, ``lxd.INSTANCE`` if not given.

    Raises UsageError. Any thread.
    """
    return exec_plan("lxd", checked.program(lxc, "lxc"), instance, remote, project, user, group, python, lend_python,
                     extra_args, connect_timeout, name)


def exec_plan(method: str, program: "Sequence[str]", instance: str, remote: "Optional[str]", project: "Optional[str]",
              user: "Union[None, int, str]", group: "Union[None, int, str]",
              python: "Union[None, str, Sequence[str]]", lend_python: "Optional[StrPath]", extra_args: "Sequence[str]",
              connect_timeout: "Union[float, Dict[str, float]]", name: "Optional[str]") -> Plan:
    """The Plan of either client."""
    target = checked.target(instance, "instance")
    if remote is not None:
        target = "%s:%s" % (checked.target(remote, "remote"), target)
    if lend_python is not None and ":" in target:
        raise UsageError("lend_python= is for instances of this machine, and %s is on a remote" % target)
    before, after = lending(lend_python, process_words(target, method, program, None, project))
    argv = list(program) + ["exec", "--mode=non-interactive", "--env", SAFE_PAIR]
    if project is not None:
        argv += ["--project", checked.target(project, "project")]
    argv += checked.further(extra_args, "extra_args") + [target, "--", PYTHON]
    return Plan(argv, checked_name(name, "%s.%s" % (method, instance)), method, classify=classify,
                python=interpreter(python, user, group, lend_python), phases=checked_phases(connect_timeout),
                remote=":" in target, before=before, after=after)


_ROWS = (
    (r"Error: (?:Instance not found|Failed to fetch instance .*|not found|No such object)", "connect",
     "there is no such instance (in this project, on this remote)"),
    (r"Error: (?:Instance is not running|Instance is (?:frozen|stopped))", "connect", "the instance does not run"),
    (r"Error: The remote \"?([^\" ]*)\"? doesn't exist", "connect", "there is no remote named {1}"),
    (r"Error: (?:Project not found|.*[Pp]roject .* not found)", "connect", "there is no such project: {0}"),
    (r"Error: .*(?:[Pp]ermission denied|not authorized|[Nn]ot authorized|Forbidden).*", "connect",
     "the server refuses this user: {0}"),
    (r"Error: (?:Get|Post|Put) \"?\S+:? .*|Error: .*(?:connect: |unix.socket|no such host).*", "connect",
     "the server does not answer: {0}"),
    (r"Error: (?:Command not found|Command not executable)", "boot",
     # so the client says of any status 127; what was said there on stderr it may have lost then
     "there is no {python} in the instance, or no Python to be found by it; say which Python by python=, or lend "
     "one by lend_python="),
    (r"Error: (?:unknown (?:shorthand )?flag|unknown command).*", "start", "the client does not take its options: {0}"),
)


def classify(method: str, status: "Optional[int]", output: str) -> "Tuple[str, str, str]":
    """Why ``lxc exec`` or ``incus exec`` ended before HELLO: (error class name, message, phase)."""
    return verdict("lxc exec" if method == "lxd" else "incus exec", status, output, _ROWS)
