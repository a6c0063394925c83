"""In a container that runs, by ``podman exec``; for the rest as docker.

podman ends with 125 for its own failures, 127 where the interpreter is missing, 255 where the container does not run.
"""

from contextree.connect import checked, reasons
from contextree.connect import container as common
from contextree.connect.discover import LOOKED_FOR
from contextree.connect.docker import elsewhere, engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Optional, Sequence, Tuple, Union

    from _typeshed import StrPath

    from contextree.connect.options import GrowOptions
    from contextree.connect.plan import Plan

    class Options(GrowOptions, total=False):
        """What ``Grower.podman`` takes beside the target: what ``plan`` does."""

        user: Union[None, int, str]
        workdir: Optional[str]
        env: Optional[Dict[str, str]]
        privileged: bool
        podman: Union[str, Sequence[str]]
        url: Optional[str]
        connection: Optional[str]
        python: Union[None, str, Sequence[str]]
        lend_python: Optional[StrPath]
        connect_timeout: Union[float, Dict[str, float]]
        name: Optional[str]


def plan(container: str, user: "Union[None, int, str]" = None, workdir: "Optional[str]" = None,
         env: "Optional[Dict[str, str]]" = None, privileged: bool = False,
         podman: "Union[str, Sequence[str]]" = "podman", url: "Optional[str]" = None,
         connection: "Optional[str]" = None, python: "Union[None, str, Sequence[str]]" = None,
         lend_python: "Optional[StrPath]" = None, connect_timeout: "Union[float, Dict[str, float]]" = 30,
         name: "Optional[str]" = None) -> "Plan":
    """A Plan for an interpreter in `container`, which must be running.

    podman           the program: a path, or several words, such as ``["podman", "--root", "/srv/store"]``.
    url, connection  as for podman --url and --connection: a podman service elsewhere.

    All else is as for ``contextree.connect.docker.plan``. Raises UsageError for what cannot be passed on safely. Any
    thread.
    """
    where = []
    if url is not None:
        where += ["--remote", "--url", checked.value(url, "url")]
    if connection is not None:
        where += ["--connection", checked.value(connection, "connection")]
    return engine("podman", checked.program(podman, "podman") + where, container, user, workdir, env, privileged,
                  python, lend_python, connect_timeout, name, classify, elsewhere(url) or connection is not None)


# -- why it failed

_RULES = (
    (r"Error: .*no container with name or ID \"?([^\s\"]+)\"? found", "ConnectError", "connect",
     "there is no container {1}"),
    (r"Error: .*no such (?:container|object):? \"?([^\s\"]+)", "ConnectError", "connect", "there is no container {1}"),
    (r"Error: container \"([^\"\n]+)\" does not exist", "ConnectError", "connect", "there is no container {1}"),
    (r"Error: .*container state improper", "ConnectError", "connect",
     "the container is not running, or is paused; start it, or podman unpause it"),
    (r"Container is (not running|paused)", "ConnectError", "connect", "the container is {1}"),
    (r"Cannot connect to Podman|.*unable to connect to Podman", "ConnectError", "connect",
     "no podman service answers there: {0}"),
    (r"Error: .*service destination not found|Error: .*connection .*not found", "ConnectError", "connect",
     "podman knows no such connection: {0}"),
    (r"Error: unable to find (user|group) ([^:\s]+)", "AuthenticationError", "login",
     "there is no {1} {2} in the container"),
    (r".*chdir to cwd \(\"([^\"\n]*)\"\)", "ConnectError", "boot", "there is no directory {1} in the container"),
    (r"\s*\* copying to container: .*read-only file system", "ConnectError", "connect",
     "no Python can be lent to a container whose file system is read-only"),
    (r"Error: \"([^\"\n]*)\" could not be found on the host", "ConnectError", "start",
     "there is nothing at {1} that could be lent (lend_python=)"),
    (r"Error: .*(?:creating runtime static files directory|creating tmpdir|mkdir /|open(?:ing)? ).*: permission denied",
     "AuthenticationError", "login", "this account may not use podman's store: {0}"),
    (r"Error: unknown (?:shorthand )?flag.*", "ConnectError", "start", "podman does not take its options: {0}"),
)


def classify(method: str, status: "Optional[int]", output: str) -> "Tuple[str, str, str]":
    """Why ``podman exec`` ended before HELLO: (error class name, message, phase). Pure; any text will do."""
    found = None
    if status != 137:
        found = reasons.explained(_RULES, output) or common.not_run(output, "the container")
    # Where it ends before it has read anything, podman 4 may drop what it said.
    if status == 127 and not output.strip():
        return "ConnectError", ("the container has no Python 3.6 or newer (looked for %s), or not the one of python=; "
                                "say which by python=, or lend one by lend_python=" % LOOKED_FOR), "boot"
    if status == 1 and not output.strip():
        return "ConnectError", ("the interpreter cannot be run in the container, or ended at once with status 1; its "
                                "loader or a library may be missing there"), "boot"
    return found or common.ended(status, output, "the container")
