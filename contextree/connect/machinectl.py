"""In a machine that systemd-machined knows, or on the host itself, as any user: what ``machinectl shell`` is for.

``machinectl shell`` gives a terminal, which echoes, translates and cuts off at ``^]^]^]``: no place for a protocol. The
same place is reached by ``systemd-run --machine=M --pipe``: a transient service there, whose stdin and stdout are our
own descriptors; see docs/decisions/0020.

Where only the former is allowed (polkit has a rule for each), ``by_shell=True`` uses it for the host itself: the
interpreter there connects to a socket of ours and gets our descriptors by it; nothing is said on the terminal. See
``contextree.parent.handed``.

systemd reads ``$NAME`` in the words of a command, so each ``$`` is doubled (systemd.service(5), "Command lines").
"""

from contextree.connect import checked
from contextree.connect.discover import WORDS
from contextree.connect.inside import SAFE_PAIR, checked_account, verdict
from contextree.connect.plan import HERE, LAUNCHER, PYTHON, TOKEN, Plan, checked_name, checked_phases, python_words
from contextree.core.wire.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional, Sequence, Tuple, Union

    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.machinectl`` takes beside the target: what ``plan`` does."""

        user: Union[None, int, str]
        group: Union[None, int, str]
        login: bool
        python: Union[None, str, Sequence[str]]
        systemd_run: Union[str, Sequence[str]]
        by_shell: bool
        machinectl: Union[str, Sequence[str]]
        extra_args: Sequence[str]
        connect_timeout: Union[float, Dict[str, float]]
        name: Optional[str]

HOST = ".host"

# systemd-run does not take its service along when it is killed. Mostly there is nothing left to be ended.
_END = '"$@" >/dev/null 2>&1 || :'

# Becomes the interpreter with the descriptors that ``parent.handed`` gives. They are put above 2 first.
_TAKE = """\
import sys
sys.path[:] = [p for p in sys.path if p[:1] == "/"]
import array, os, socket
s = socket.socket(socket.AF_UNIX)
s.connect("\\0" + sys.argv[1])
d = s.recvmsg(1, 64)[1]
f = array.array("i", d[0][2])
for n in range(3):
    os.dup2(f[n], n)
    os.close(f[n])
s.close()
os.execv(sys.executable, [sys.executable] + sys.argv[2:])
"""


def plan(machine: str = HOST, user: "Union[None, int, str]" = None, group: "Union[None, int, str]" = None,
         login: bool = False, python: "Union[None, str, Sequence[str]]" = None,
         systemd_run: "Union[str, Sequence[str]]" = "systemd-run", by_shell: bool = False,
         machinectl: "Union[str, Sequence[str]]" = "machinectl", extra_args: "Sequence[str]" = (),
         connect_timeout: "Union[float, Dict[str, float]]" = 30, name: "Optional[str]" = None) -> Plan:
    """A Plan for an interpreter in `machine`, as a service of the systemd there.

    machine          its name, ``user@machine``, or ``.host``: where the context that starts it is.
    user, group      whom to become there: a name of the accounts there, or a number. None: root.
    login            open a session as ``login`` does, through PAM: limits, groups, XDG_RUNTIME_DIR, the user's home as
                     the working directory.
    python           the interpreter there: str, split as a shell would, or list of words. None: the first one found.
    systemd_run      the program: a path, or several words.
    by_shell         use ``machinectl shell``, for ``.host`` alone; a login it is always. machinectl: that program.
    extra_args       further words for it: ``["--property=MemoryMax=1G"]``.
    connect_timeout  seconds for each phase, or a dict with some of "connect", "login", "boot".
    name             the context's name; if not given ``machinectl.MACHINE``, for the host ``machinectl.USER``.

    Raises UsageError. Any thread.
    """
    who, _, place = checked.target(machine, "machine").rpartition("@")
    if who and user is not None:
        raise UsageError("user= says %s, and the machine %r another" % (user, machine))
    account = checked_account(who or user, "user")
    # older ones want the absolute path of a program
    words = python_words(python) or ["/bin/sh"] + list(WORDS[1:])
    last = place if place != HOST else account or "root"
    name = checked_name(name, "machinectl." + last)
    phases = checked_phases(connect_timeout)
    if by_shell:
        if place != HOST or group is not None:
            raise UsageError("by_shell=True is for .host, and takes no group=")
        words = words if words[0].startswith("/") else ["/bin/sh", "-c", 'exec "$@"', "sh"] + words
        argv = [HERE, "-ISc", LAUNCHER + "handed", "name=contextree-" + TOKEN, "user=" + (account or "0"), "--"]
        argv += checked.program(machinectl, "machinectl") + ["--quiet", "--no-ask-password", "--setenv=" + SAFE_PAIR]
        argv += (["--uid=" + account] if account is not None else []) + checked.further(extra_args, "extra_args")
        return Plan(argv + ["shell", HOST, PYTHON], name, "machinectl", classify=classify, phases=phases,
                    python=_doubled(words) + ["-c", _TAKE, "contextree-" + TOKEN])
    argv, unit = checked.program(systemd_run, "systemd_run"), "contextree-" + TOKEN + ".service"
    there = ["--machine=" + checked.target(place, "machine")] if place != HOST else []
    after = []
    if argv[-1].endswith("systemd-run"):
        systemctl = argv[:-1] + [argv[-1][:-len("systemd-run")] + "systemctl", "--no-ask-password"] + there
        after = [["/bin/sh", "-c", _END, "contextree"] + systemctl + ["kill", "--signal=SIGKILL", unit]]
    argv += ["--quiet", "--no-ask-password", "--pipe", "--wait", "--collect", "--unit=" + unit] + there
    if account is not None:
        argv.append("--uid=" + account)
    if group is not None:
        argv.append("--gid=%s" % checked_account(group, "group"))
    if login:
        if account is None:
            argv.append("--uid=root")    # PAM opens a session for somebody
        argv += ["--property=PAMName=login", "--property=WorkingDirectory=-~"]
    argv += ["--setenv=" + SAFE_PAIR] + checked.further(extra_args, "extra_args") + ["--", PYTHON]
    return Plan(argv, name, "machinectl", classify=classify, python=_doubled(words), phases=phases,
                after=after)


def _doubled(words: "Sequence[str]") -> "List[str]":
    return [word.replace("$", "$$") for word in words]


_ROWS = (
    (r"Failed to (?:connect to bus|create bus connection): Host is down|"
     r"Failed to connect to bus: (?:No route|Protocol).*|.*No machine '.*' known", "connect",
     "there is no such machine that runs systemd; look at machinectl list"),
    (r"Failed to connect to bus: (?:No such file|Connection refused).*|.*systemd1 was not provided.*|"
     r"System has not been booted with systemd.*", "connect", "systemd does not run here: {0}"),
    (r"Failed to (?:get shell PTY|connect to bus|start transient service unit|create bus connection): "
     r"(?:Access denied|Permission denied|Interactive authentication required|Operation not permitted).*",
     "connect", "this user may not start services there: {0}; polkit decides, see docs/methods/machinectl.md"),
    (r"systemd-run: (?:unrecognized|invalid|ambiguous) option.*|Unknown assignment.*|Failed to parse .*", "start",
     "systemd-run does not take its options: {0}"),
)
# what systemd says with its exit status: systemd.exec(5), "Process exit codes"
_STATUS = {200: ("connect", "its working directory cannot be entered"),
           203: ("boot", "there is no {python} there; say which Python by python="),
           216: ("login", "there is no such group there"), 217: ("login", "there is no such user there"),
           224: ("login", "PAM refuses to open a session; see the journal there")}


def classify(method: str, status: "Optional[int]", output: str) -> "Tuple[str, str, str]":
    """Why systemd-run ended before HELLO: (error class name, message, phase)."""
    if status in _STATUS:
        phase, text = _STATUS[status]
        return "AuthenticationError" if phase == "login" else "ConnectError", text, phase
    return verdict("systemd-run", status, output, _ROWS)
