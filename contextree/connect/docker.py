"""In a container that runs, by ``docker exec``.

``docker exec -i`` without a terminal: its pipes are clean both ways, and stderr comes apart. The client ends with the
status of the interpreter, with 126 where that could not be started, with 1 where the engine said no.
"""

from contextree.connect import checked, reasons
from contextree.connect import container as common
from contextree.connect.plan import PYTHON, Plan, checked_name, checked_phases

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Optional, Sequence, Tuple, Union

    from _typeshed import StrPath

    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.docker`` takes beside the target: what ``plan`` does."""

        user: Union[None, int, str]
        workdir: Optional[str]
        env: Optional[Dict[str, str]]
        privileged: bool
        docker: Union[str, Sequence[str]]
        host: Optional[str]
        context: Optional[str]
        python: Union[None, str, Sequence[str]]
        lend_python: Optional[StrPath]
        connect_timeout: Union[float, Dict[str, float]]
        name: Optional[str]


def plan(container: str, user: "Union[None, int, str]" = None, workdir: "Optional[str]" = None,
         env: "Optional[Dict[str, str]]" = None, privileged: bool = False,
         docker: "Union[str, Sequence[str]]" = "docker", host: "Optional[str]" = None,
         context: "Optional[str]" = None, python: "Union[None, str, Sequence[str]]" = None,
         lend_python: "Optional[StrPath]" = None, connect_timeout: "Union[float, Dict[str, float]]" = 30,
         name: "Optional[str]" = None) -> Plan:
    """A Plan for an interpreter in `container`, which must be running.

    container        its name or id.
    user             account there, by name or number, with ``:group`` if wanted; None: the image's.
    workdir          directory to start in; None: the image's.
    env              variables to add. Their values are on no command line.
    privileged       with all capabilities.
    docker           the program: a path, or several words, such as ``["sudo", "-n", "docker"]``.
    host, context    as for docker --host and --context: which engine.
    python           the interpreter there: str, split as a shell would, or list of words. None: the first one found,
                     see ``contextree.connect.discover``, which needs a ``sh`` there.
    lend_python      directory of a Python, on the machine where docker runs, that is copied into the container for as
                     long as the context lives; ``python`` is then its program in there, ``bin/python3`` if not given.
    connect_timeout  seconds for each phase, or a dict with some of "connect", "login", "boot".
    name             the context's name, ``docker.CONTAINER`` if not given.

    Raises UsageError for what cannot be passed on safely. Any thread.
    """
    where = []
    if host is not None:
        where += ["--host", checked.value(host, "host")]
    if context is not None:
        where += ["--context", checked.value(context, "context")]
    return engine("docker", checked.program(docker, "docker") + where, container, user, workdir, env, privileged,
                  python, lend_python, connect_timeout, name, classify, elsewhere(host) or context is not None)


def elsewhere(address: "Optional[str]") -> bool:
    """Whether the address of an engine or a service is that of another host."""
    return address is not None and not address.startswith(("unix:", "fd:", "npipe:", "/"))


def engine(method: str, tool: "Sequence[str]", container: str, user: "Union[None, int, str]", workdir: "Optional[str]",
           env: "Optional[Dict[str, str]]", privileged: bool, python: "Union[None, str, Sequence[str]]",
           lend_python: "Optional[StrPath]", connect_timeout: "Union[float, Dict[str, float]]",
           name: "Optional[str]", classify: "common.Classify", remote: bool) -> Plan:
    """The Plan of ``exec`` by a `tool` that takes docker's options."""
    checked.target(container, "container")
    words, given = common.variables(env, method)
    if user is not None:
        words += ["-u", checked.value(user, "user")]
    if workdir is not None:
        words += ["-w", checked.value(workdir, "workdir")]
    if privileged:
        words.append("--privileged")
    interpreter = common.interpreter(python, lend_python)
    before, after = common.lend(tool, container, common.checked_path(lend_python, "lend_python"), interpreter) \
        if lend_python is not None else ((), ())
    return Plan(list(tool) + ["exec", "-i"] + words + [container, PYTHON],
                checked_name(name, "%s.%s" % (method, container)), method, env=given, python=interpreter,
                remote=remote, phases=checked_phases(connect_timeout), before=before, after=after, classify=classify)


# -- why it failed

_RULES = (
    (r".*[Nn]o such (?:container|object): (\S+)", "ConnectError", "connect", "there is no container {1}"),
    (r".*[Cc]ontainer (?:\S+ )?is not running", "ConnectError", "connect", "the container is not running; start it"),
    (r".*[Cc]ontainer (?:\S+ )?is paused", "ConnectError", "connect", "the container is paused; docker unpause it"),
    (r".*[Cc]ontainer (?:\S+ )?is restarting", "ConnectError", "connect", "the container is restarting; try it later"),
    (r".*permission denied while trying to connect to the [Dd]ocker", "AuthenticationError", "login",
     "this account may not use the socket of the docker engine; it wants the group docker, or root: {0}"),
    (r".*(?:Cannot connect to the Docker daemon at (\S+?)\. |failed to connect to the docker API at ([^\s;]+))",
     "ConnectError", "connect", "no docker engine answers at {1}{2}"),
    (r".*context \"([^\"\n]*)\": context not found", "ConnectError", "connect", "docker knows no context {1}"),
    (r"error during connect: .*", "ConnectError", "connect", "docker cannot reach its engine: {0}"),
    (r".*unable to find (user|group) ([^:\s]+)", "AuthenticationError", "login",
     "there is no {1} {2} in the container"),
    (r".*chdir to cwd \(\"([^\"\n]*)\"\)", "ConnectError", "boot", "there is no directory {1} in the container"),
    (r".*container rootfs is marked read-only", "ConnectError", "connect",
     "no Python can be lent to a container whose file system is read-only"),
    (r"(?:lstat|stat|invalid.*) (.*): no such file or directory", "ConnectError", "start",
     "there is nothing at {1} that could be lent (lend_python=)"),
    (r"unknown (?:shorthand )?flag.*", "ConnectError", "start", "docker does not take its options: {0}"),
)


def classify(method: str, status: "Optional[int]", output: str) -> "Tuple[str, str, str]":
    """Why ``docker exec`` ended before HELLO: (error class name, message, phase). Pure; any text will do."""
    found = None
    if status != 137:
        found = reasons.explained(_RULES, output) or common.not_run(output, "the container")
    return found or common.ended(status, output, "the container")
