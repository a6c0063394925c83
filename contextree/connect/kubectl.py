"""In a container of a Kubernetes pod, by ``kubectl exec``.

``kubectl exec`` has no option for variables, so the interpreter gets ``first_stage.SAFE`` otherwise: from the shell
that looks for it; or, where ``python`` is one word, from itself: it starts isolated (``-I``), sets the variable, and
becomes itself anew (10 ms). So neither ``env`` nor a shell is needed in the container. Several words are put behind
``env``.
"""

from contextree.connect import checked, reasons
from contextree.connect import container as common
from contextree.connect.discover import WORDS
from contextree.connect.plan import (
    PYTHON,
    PYTHON_SAFE,
    Plan,
    checked_name,
    checked_phases,
    last_line,
    python_words,
)
from contextree.core.first_stage import SAFE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional, Sequence, Tuple, Union

    from _typeshed import StrPath

    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.kubectl`` takes beside the target: what ``plan`` does."""

        container: Optional[str]
        namespace: Optional[str]
        context: Optional[str]
        kubeconfig: Optional[StrPath]
        kubectl: Union[str, Sequence[str]]
        python: Union[None, str, Sequence[str]]
        connect_timeout: Union[float, Dict[str, float]]
        name: Optional[str]

_ANEW = ("import os,sys;os.environ[%r]=%r;os.execv(sys.executable,[sys.executable]+sys.argv[1:])" % SAFE)


def plan(pod: str, container: "Optional[str]" = None, namespace: "Optional[str]" = None,
         context: "Optional[str]" = None, kubeconfig: "Optional[StrPath]" = None,
         kubectl: "Union[str, Sequence[str]]" = "kubectl", python: "Union[None, str, Sequence[str]]" = None,
         connect_timeout: "Union[float, Dict[str, float]]" = 30, name: "Optional[str]" = None) -> Plan:
    """A Plan for an interpreter in a `pod` that runs.

    pod              its name, or ``TYPE/NAME``, such as ``deploy/web``: one of its pods.
    container        which of the pod's containers; None: the default one.
    namespace        of the pod; None: that of kubectl's context.
    context          which context of kubectl's configuration; None: the current one.
    kubeconfig       path of the configuration; None: $KUBECONFIG, or ~/.kube/config, of where kubectl runs.
    kubectl          the program: a path, or several words, such as ``["oc"]`` or ``["kubectl", "--as", "ann"]``.
    python           the interpreter there: str, split as a shell would, or list of words. None: the first one found,
                     see ``contextree.connect.discover``, which needs a ``sh`` there.
    connect_timeout  seconds for each phase, or a dict with some of "connect", "login", "boot".
    name             the context's name, ``kubectl.POD`` if not given.

    Raises UsageError for what cannot be passed on safely. Any thread.
    """
    checked.target(pod, "pod")
    argv = checked.program(kubectl, "kubectl")
    if kubeconfig is not None:
        argv += ["--kubeconfig", checked.path(kubeconfig, "kubeconfig")]
    if context is not None:
        argv += ["--context", checked.value(context, "context")]
    if namespace is not None:
        argv += ["--namespace", checked.value(namespace, "namespace")]
    argv += ["exec", "-i", pod]
    if container is not None:
        argv += ["-c", checked.target(container, "container")]
    words, place = _interpreter(python)
    return Plan(argv + ["--", place], checked_name(name, "kubectl.%s" % pod.replace("/", ":")), "kubectl", python=words,
                remote=True, phases=checked_phases(connect_timeout), classify=classify)


def _interpreter(python: "Union[None, str, Sequence[str]]") -> "Tuple[List[str], str]":
    """(the interpreter's words, what stands for them in argv)."""
    words = python_words(python)
    if not words:
        return list(WORDS), PYTHON
    if len(words) == 1:
        return words + ["-ISc", _ANEW], PYTHON
    return words, PYTHON_SAFE


# -- why it failed

_RULES = (
    (r"Error from server \(NotFound\): (\S+) \"([^\"\n]+)\" not found", "ConnectError", "connect",
     "there is no {2} among the {1}"),
    (r".*container \"?(\S+?)\"? (?:is not valid for pod|not found in pod) \"?(\S+?)\"?$", "ConnectError", "connect",
     "the pod {2} has no container {1}"),
    (r".*pod \"?(\S+?)\"? does not have a host assigned", "ConnectError", "connect",
     "the pod {1} is not running yet: it waits for a node"),
    (r".*cannot exec (?:into|in) a container in a completed pod; current phase is (\S+)", "ConnectError", "connect",
     "the pod has ended ({1})"),
    (r"error: .*unable to upgrade connection: container not found \(\"([^\"\n]*)\"\)", "ConnectError", "connect",
     "the container {1} is not running"),
    (r"Error from server \(Forbidden\): (.*)", "AuthenticationError", "login",
     "this account may not do so in the cluster: {1}"),
    (r"(?:error: )?.*(?:\(Unauthorized\)|You must be logged in to the server|provide credentials).*",
     "AuthenticationError", "login", "the cluster does not know this account: {0}"),
    (r".*x509: .*", "HostKeyError", "connect", "the certificate of the cluster's server is not trusted: {0}"),
    (r"The connection to the server (\S+) was refused", "ConnectError", "connect",
     "no Kubernetes server answers at {1} (connection refused)"),
    (r"(?:error: )?Unable to connect to the server: .*", "ConnectError", "connect", "kubectl: {0}"),
    (r"error: (?:context|no context exists with the name:?) \"?([^\"\n]+?)\"?(?: does not exist)?$", "ConnectError",
     "connect", "kubectl's configuration has no context {1}"),
    (r"error: (?:stat|open) (.*): no such file or directory", "ConnectError", "start",
     "there is no configuration at {1} (kubeconfig=)"),
    (r"error: unknown (?:shorthand )?flag.*", "ConnectError", "start", "kubectl does not take its options: {0}"),
    (r"Unknown option: -I", "VersionError", "boot", "Python 3.6 or newer is needed there, this is an old one"),
    (r"(?:error: |Error from server).*(?:timed out|[Tt]imeout|deadline exceeded).*", "ConnectTimeout", "connect",
     "the cluster did not answer in time: {0}"),
)


def classify(method: str, status: "Optional[int]", output: str) -> "Tuple[str, str, str]":
    """Why ``kubectl exec`` ended before HELLO: (error class name, message, phase). Pure; any text will do."""
    found = None
    if status != 137:
        found = common.not_run(output, "the container", lends=False) or reasons.explained(_RULES, output)
    if found is None and status == 1 and "command terminated with" not in output:
        return "ConnectError", "kubectl ended with status 1%s" % last_line(output), "connect"
    return found or common.ended(status, output, "the container", lends=False)
