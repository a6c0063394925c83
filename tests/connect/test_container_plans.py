"""The plans of docker, podman, buildah and kubectl as data: what they run, what is refused, what is made of the words
of the tools, those of versions that are not here among them."""

import os
import pickle
import stat

import pytest

import contextree
from contextree.connect import buildah, container, docker, kubectl, podman
from contextree.connect.discover import WORDS
from contextree.connect.plan import PYTHON, PYTHON_SAFE, TOKEN, command
from contextree.core.wire import errors

METHODS = {"docker": docker, "podman": podman, "buildah": buildah, "kubectl": kubectl}
SAFE = ["-e", "PYTHONSAFEPATH=contextree"]


@pytest.mark.parametrize(("plan", "argv", "name"), [
    (docker.plan("app"), ["docker", "exec", "-i", *SAFE, "app", PYTHON], "docker.app"),
    (docker.plan("app", docker=["sudo", "-n", "docker"], host="ssh://web1", context="far", user=5, workdir="/w",
                 privileged=True, env={"A": "secret"}, name="box"),
     ["sudo", "-n", "docker", "--host", "ssh://web1", "--context", "far", "exec", "-i", *SAFE, "-e", "A", "-u", "5",
      "-w", "/w", "--privileged", "app", PYTHON], "box"),
    (podman.plan("app", podman="podman --root /r", user="ann:staff"),
     ["podman", "--root", "/r", "exec", "-i", *SAFE, "-u", "ann:staff", "app", PYTHON], "podman.app"),
    (podman.plan("app", url="ssh://web1/run/podman.sock", connection="far"),
     ["podman", "--remote", "--url", "ssh://web1/run/podman.sock", "--connection", "far", "exec", "-i", *SAFE, "app",
      PYTHON], "podman.app"),
    (buildah.plan("work", isolation="chroot", user="ann", workdir="/w", lend_python="/opt/python"),
     ["buildah", "--log-level", "fatal", "run", "--env", SAFE[1], "--isolation", "chroot", "--user", "ann",
      "--workingdir", "/w", "--volume", "/opt/python:/.contextree-%s:ro" % TOKEN, "work", "--", PYTHON],
     "buildah.work"),
    (kubectl.plan("web"), ["kubectl", "exec", "-i", "web", "--", PYTHON], "kubectl.web"),
    (kubectl.plan("deploy/web", container="side", namespace="shop", context="far", kubeconfig="conf",
                  kubectl=["kubectl", "--as", "ann"], python=["env", "X=1", "python3"]),
     ["kubectl", "--as", "ann", "--kubeconfig", "conf", "--context", "far", "--namespace", "shop", "exec", "-i",
      "deploy/web", "-c", "side", "--", PYTHON_SAFE], "kubectl.deploy:web"),
])
def test_what_is_run(plan, argv, name):
    assert plan.argv == argv
    assert plan.name == name
    assert pickle.loads(pickle.dumps(plan)).argv == argv


def test_values_of_variables_are_on_no_command_line():
    plan = docker.plan("app", env={"TOKEN": "canary", "EMPTY": ""}, lend_python="/opt/python")
    assert plan.env == {"TOKEN": "canary", "EMPTY": ""}
    for words in (command(plan, ["-c", "x"]), *plan.before, *plan.after):
        assert "canary" not in " ".join(words)


@pytest.mark.parametrize("target", ["", "-it", "--privileged", "a b", "a\nb", "a\0", "a\x1bb", "a\u2028b", None, 7])
@pytest.mark.parametrize("method", METHODS)
def test_s_28_targets_that_are_refused(method, target):
    with pytest.raises(errors.UsageError):
        METHODS[method].plan(target)


@pytest.mark.parametrize("options", [
    {"user": "-u"}, {"user": ""}, {"user": "a\nb"}, {"user": -1}, {"user": True}, {"workdir": "-w"}, {"workdir": ""},
    {"docker": ""}, {"docker": []}, {"docker": ["docker", ""]}, {"docker": ["do\ncker"]}, {"host": "-H"},
    {"context": "--x"}, {"env": {"A": None}}, {"env": {"": "x"}}, {"env": {"A=B": "x"}}, {"env": {"-e": "x"}},
    {"env": {"A": "x\0"}}, {"env": {"A": 1}}, {"env": {"PATH": "/x"}}, {"env": {"DOCKER_HOST": "x"}},
    {"env": {"https_proxy": "x"}}, {"env": {"LD_PRELOAD": "x"}}, {"lend_python": ""}, {"lend_python": "a\nb"},
    {"lend_python": 3}, {"python": ""}, {"python": []}, {"connect_timeout": 0}, {"name": "a/b"}])
def test_s_28_options_that_are_refused(options):
    with pytest.raises(errors.UsageError):
        docker.plan("app", **options)


@pytest.mark.parametrize(("method", "options"), [
    ("podman", {"url": "-x"}), ("podman", {"connection": ""}), ("buildah", {"isolation": "-x"}),
    ("buildah", {"lend_python": "a/b"}), ("buildah", {"lend_python": "/a:b"}), ("kubectl", {"namespace": "--all"}),
    ("kubectl", {"container": "-c"}), ("kubectl", {"kubeconfig": "a\nb"}), ("kubectl", {"context": ""})])
def test_s_28_options_of_the_others_that_are_refused(method, options):
    with pytest.raises(errors.UsageError):
        METHODS[method].plan("app", **options)


def test_what_is_on_another_host():
    assert [plan.remote for plan in (docker.plan("a"), docker.plan("a", host="unix:///x"), podman.plan("a"),
                                     podman.plan("a", url="unix:///x"), buildah.plan("a"))] == [False] * 5
    assert [plan.remote for plan in (docker.plan("a", host="ssh://web1"), docker.plan("a", host="tcp://web1:2376"),
                                     docker.plan("a", context="far"), podman.plan("a", url="ssh://web1/x"),
                                     podman.plan("a", connection="far"), kubectl.plan("a"))] == [True] * 6


def test_names_with_a_slash_are_refused():
    with pytest.raises(errors.UsageError, match="slash"):
        docker.plan("a/b")


def test_a_path_to_lend_is_never_taken_for_a_container():
    before = docker.plan("app", lend_python="python:3/").before
    assert before[1][-2:] == ["./python:3/.", "app:/.contextree-" + TOKEN]


def test_a_shell_looks_for_the_interpreter_unless_it_is_given():
    assert docker.plan("app").python == list(WORDS)
    assert docker.plan("app", lend_python="/p").python == ["/.contextree-%s/bin/python3" % TOKEN]
    assert docker.plan("app", lend_python="/p", python="b/py -X {lent}/x").python == [
        "/.contextree-%s/b/py" % TOKEN, "-X", "/.contextree-%s/x" % TOKEN]
    words = command(kubectl.plan("web"), ["-c", "stage"])
    assert words[5:7] == ["sh", "-c"]
    assert words[7].count("export PYTHONSAFEPATH=contextree;") == 1
    words = command(kubectl.plan("web", python="/usr/bin/python3"), ["-c", "stage", "id"])
    assert words[5:7] == ["/usr/bin/python3", "-ISc"]
    assert words[8:] == ["-c", "stage", "id"]


# -- what the tools say

D, P, B, K = METHODS.values()
EXEC = "OCI runtime exec failed: exec failed: unable to start container process: "
CLASSIFIED = [
    (D, 1, "Error response from daemon: No such container: app", "ConnectError", "connect", "no container app"),
    (D, 1, "Error: No such container: app", "ConnectError", "connect", "no container app"),
    (D, 1, "Error response from daemon: Container 9be1 is not running", "ConnectError", "connect", "not running"),
    (D, 1, "Error response from daemon: container 9be1 is not running", "ConnectError", "connect", "not running"),
    (D, 1, "Error response from daemon: Container a is paused, unpause the container before exec", "ConnectError",
     "connect", "paused"),
    (D, 1, "Error response from daemon: Container 9be1 is restarting, wait until the container is running",
     "ConnectError", "connect", "restarting"),
    (D, 1, "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
     "ConnectError", "connect", "no docker engine answers at unix:///var/run/docker.sock"),
    (D, 1, "failed to connect to the docker API at unix:///run/docker.sock; check if the path is correct and if the "
           "daemon is running", "ConnectError", "connect", "no docker engine answers at unix:///run/docker.sock"),
    (D, 1, "WARNING: Error loading config file: open /x: permission denied\npermission denied while trying to connect "
           "to the Docker daemon socket at unix:///x.sock: Get \"http://x\": connect: permission denied",
     "AuthenticationError", "login", "may not use the socket"),
    (D, 1, "permission denied while trying to connect to the docker API at unix:///x.sock", "AuthenticationError",
     "login", "may not use the socket"),
    (D, 126, EXEC + 'exec: "python9": executable file not found in $PATH: unknown', "ConnectError", "boot",
     "has no python9; say which Python by python="),
    (D, 126, EXEC + 'exec: "sh": executable file not found in $PATH: unknown', "ConnectError", "boot",
     "no sh to look for a Python with (for python3, "),
    (D, 126, EXEC + 'exec: "/etc/passwd": permission denied: unknown', "ConnectError", "boot", "may not be run"),
    (D, 126, "unable to find user bob: no matching entries in passwd file", "AuthenticationError", "login",
     "no user bob"),
    (D, 126, EXEC + 'chdir to cwd ("/w") set in config.json failed: no such file or directory: unknown',
     "ConnectError", "boot", "no directory /w"),
    (D, 126, EXEC + "unable to apply caps: operation not permitted: unknown", "ConnectError", "boot",
     "the runtime of the container does not start"),
    (D, 127, "contextree: no Python 3.6 or newer: looked for python3; PATH=/bin", "ConnectError", "boot",
     "has no Python 3.6 or newer: looked for python3; PATH=/bin; say which by python=, or lend one by lend_python="),
    (D, 137, "", "ConnectError", "boot", "not enough memory"),
    (D, 125, "unknown flag: --nope\n\nUsage:  docker exec", "ConnectError", "start", "does not take its options"),
    (D, 1, "Error response from daemon: container rootfs is marked read-only", "ConnectError", "connect", "read-only"),
    (D, None, "", "ConnectError", "boot", "ended before it said hello"),
    (D, -9, "", "ConnectError", "boot", "was killed by signal 9"),
    (P, 125, 'Error: no container with name or ID "app" found: no such container', "ConnectError", "connect",
     "no container app"),
    (P, 255, "Error: can only create exec sessions on running containers: container state improper", "ConnectError",
     "connect", "not running, or is paused"),
    (P, 127, "Error: runc: exec failed: unable to start container process: exec: \"python9\": executable file not "
             "found in $PATH: OCI runtime attempted to invoke a command that was not found", "ConnectError", "boot",
     "has no python9"),
    (P, 127, "Error: crun: executable file `python9` not found in $PATH: No such file or directory: OCI runtime "
             "attempted to invoke a command that was not found", "ConnectError", "boot", "has no python9"),
    (P, 255, "Error: unable to find user bob: no matching entries in passwd file", "AuthenticationError", "login",
     "no user bob"),
    (P, 1, "", "ConnectError", "boot", "cannot be run in the container, or ended at once"),
    (P, 127, "", "ConnectError", "boot", "or not the one of python="),
    (P, 137, "", "ConnectError", "boot", "not enough memory"),
    (B, 125, 'Error: reading build container "app": container not known', "ConnectError", "connect",
     "no working container app"),
    (B, 1, 'process failed to start with error: exec: "python9": executable file not found in $PATHprocess exited with '
           "error: exec: not startedsubprocess exited with status 1\nError: exit status 1", "ConnectError", "boot",
     "has no python9"),
    (B, 1, "process failed to start with error: fork/exec /python9: no such file or directoryprocess exited",
     "ConnectError", "boot", "has no /python9, or its loader"),
    (B, 125, 'Error: determining run uid: user: unknown user error looking up user "bob"', "AuthenticationError",
     "login", "no user bob"),
    (B, 125, 'Error: unrecognized isolation type "zzz"', "ConnectError", "start", 'no isolation "zzz"'),
    (K, 1, 'Error from server (NotFound): pods "app" not found', "ConnectError", "connect", "no app among the pods"),
    (K, 1, 'Error from server (NotFound): deployments.apps "app" not found', "ConnectError", "connect",
     "no app among the deployments.apps"),
    (K, 1, 'Error from server (NotFound): namespaces "x" not found', "ConnectError", "connect", "among the namespaces"),
    (K, 1, "Error from server (BadRequest): container side is not valid for pod web", "ConnectError", "connect",
     "the pod web has no container side"),
    (K, 1, "error: container side not found in pod web_default", "ConnectError", "connect", "no container side"),
    (K, 1, "Error from server (BadRequest): pod web does not have a host assigned", "ConnectError", "connect",
     "not running yet"),
    (K, 1, "error: cannot exec into a container in a completed pod; current phase is Failed", "ConnectError",
     "connect", "the pod has ended (Failed)"),
    (K, 1, 'error: Internal error occurred: unable to upgrade connection: container not found ("main")',
     "ConnectError", "connect", "the container main is not running"),
    (K, 1, 'Error from server (Forbidden): pods "web" is forbidden: User "ann" cannot create', "AuthenticationError",
     "login", "may not do so"),
    (K, 1, "error: You must be logged in to the server (Unauthorized)", "AuthenticationError", "login",
     "does not know this account"),
    (K, 1, "Unable to connect to the server: tls: failed to verify certificate: x509: certificate signed by unknown "
           "authority", "HostKeyError", "connect", "is not trusted"),
    (K, 1, "The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?",
     "ConnectError", "connect", "no Kubernetes server answers at 127.0.0.1:1"),
    (K, 1, "Unable to connect to the server: dial tcp: lookup k8s.invalid: no such host", "ConnectError", "connect",
     "no such host"),
    (K, 1, 'error: context "far" does not exist', "ConnectError", "connect", "no context far"),
    (K, 1, "error: stat /x/conf: no such file or directory", "ConnectError", "start", "no configuration at /x/conf"),
    (K, 1, "error: unknown flag: --nope", "ConnectError", "start", "does not take its options"),
    (K, 1, "error: Internal error occurred: error executing command in container: failed to exec in container: failed "
           "to start exec \"5f\": " + EXEC + 'exec: "python9": executable file not found in $PATH: unknown',
     "ConnectError", "boot", "has no python9; say which Python by python="),
    (K, 126, EXEC + 'exec: "sh": executable file not found in $PATH: unknown\ncommand terminated with exit code 126',
     "ConnectError", "boot", "no sh to look for a Python with"),
    (K, 127, "contextree: no Python 3.6 or newer: looked for python3 in PATH=/bin\ncommand terminated with exit code "
             "127", "ConnectError", "boot", "looked for python3"),
    (K, 137, "command terminated with exit code 137", "ConnectError", "boot", "not enough memory"),
    (K, 2, "Unknown option: -I\nusage: python [option]\ncommand terminated with exit code 2", "VersionError", "boot",
     "Python 3.6 or newer"),
    (K, 1, "error: unable to do this and that", "ConnectError", "connect", "unable to do this"),
]


@pytest.mark.parametrize(("method", "status", "output", "error", "phase", "message"), CLASSIFIED)
def test_one_sentence_for_each(method, status, output, error, phase, message):
    found = method.classify(method.__name__.rpartition(".")[2], status, output)
    assert (found[0], found[2]) == (error, phase), found
    assert message in found[1]
    assert "\n" not in found[1]


@pytest.mark.parametrize("text", ["", "\n\n", "\0", "x" * 100000, 'exec: "', "Error: \n* copying", "\u2028"])
@pytest.mark.parametrize("status", [None, 0, 1, 126, 127, 137, 255, -9])
@pytest.mark.parametrize("method", METHODS)
def test_any_text_will_do(method, status, text):
    error, message, phase = METHODS[method].classify(method, status, text)
    assert issubclass(getattr(errors, error), errors.ConnectError)
    assert message
    assert phase in ("start", "connect", "login", "boot")


# -- a stand-in for kubectl, for machines that have none

STAND_IN = """#!/bin/sh
printf '%s\\n' "$@" >>"$0.argv"
case "$*" in
    *refused-pod*) echo 'Error from server (NotFound): pods "refused-pod" not found' >&2; exit 1 ;;
esac
while [ "$1" != -- ]; do shift; done
shift
"$@" || { status=$?; echo "command terminated with exit code $status" >&2; exit $status; }
"""


@pytest.fixture
def stand_in(tmp_path):
    """A ``kubectl`` that writes down its words and runs the command here."""
    path = tmp_path / "kubectl"
    path.write_text(STAND_IN)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize("python", [None, "python3", ["env", "X=1", "python3"]])
def test_kubectl_by_a_stand_in(stand_in, python):
    with contextree.Router() as router:
        with router.kubectl("web", namespace="shop", kubectl=str(stand_in), python=python) as context:
            assert context.name == "kubectl.web"
            assert context.call(os.getenv, "PYTHONSAFEPATH") is None
            assert context.call(abs, -1) == 1
        with pytest.raises(contextree.ConnectError, match="no refused-pod among the pods"):
            router.kubectl("refused-pod", kubectl=str(stand_in))
        with pytest.raises(contextree.ConnectError, match="no-such-python"):
            router.kubectl("web", kubectl=str(stand_in), python="no-such-python")
    words = (stand_in.parent / "kubectl.argv").read_text().split("\n")
    assert words[:6] == ["--namespace", "shop", "exec", "-i", "web", "--"]


def test_what_all_share_is_named_once():
    assert container.LENT.endswith(TOKEN)
