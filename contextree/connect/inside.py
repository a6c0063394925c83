"""What the methods share that enter something on the same machine: containers, namespaces, other root directories.

Another user there is a matter of ``as_user``, the same for all of them: the interpreter that was found starts as whom
the tool makes us (root), becomes the user by the account files there, and then itself again with the first stage. The
tools' own options would each mean something else: ``lxc exec --user`` takes numbers and leaves the group root,
``systemd-nspawn --user`` needs getent there, busybox's ``chroot`` has none.
"""

import re

from contextree.connect import checked
from contextree.connect.discover import WORDS
from contextree.connect.plan import HERE, LAUNCHER, TOKEN, how_it_ended, last_line, python_words
from contextree.connect.reasons import explained
from contextree.core.first_stage import SAFE
from contextree.core.wire.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, Optional, Sequence, Tuple, Union

    from _typeshed import StrPath

    Row = Tuple[str, str, str]
    Commands = List[List[str]]

SAFE_PAIR = "=".join(SAFE)

#: Where a lent Python lies there: in the root directory, which no mount hides, and under a name that nobody can guess.
LENT = "/.contextree-" + TOKEN

# Where setgroups is denied (a user namespace made without privileges), groups stay as they are.
_BECOME = """\
import sys
sys.path[:] = [p for p in sys.path if p[:1] == "/"]
import os
def fail(text):
    sys.stderr.write("contextree: login: %s\\n" % text)
    sys.stderr.flush()
    os._exit(122)
def find(field, name, what):
    for row in open("/etc/" + what).read().splitlines() if os.path.exists("/etc/" + what) else ():
        row = row.split(":")
        if len(row) > 3 and row[field] == name:
            return row
user, group = sys.argv[1:3]
row = find(0, user, "passwd") or (user.isdigit() and find(2, user, "passwd")) or None
if row is None and not user.isdigit():
    try:
        import pwd
        row = list(map(str, pwd.getpwnam(user)))
    except (ImportError, KeyError):
        fail("there is no user %s there" % user)
uid, gid = (int(row[2]), int(row[3])) if row else (int(user), None)
if group.isdigit():
    gid = int(group)
elif group:
    found = find(0, group, "group") or fail("there is no group %s there" % group)
    gid = int(found[2])
if gid is None:
    fail("there is no user with the number %s there, and so no group: give group= too" % user)
groups = [gid]
for line in open("/etc/group").read().splitlines() if row and os.path.exists("/etc/group") else ():
    other = line.split(":")
    if len(other) > 3 and row[0] in other[3].split(",") and int(other[2]) != gid:
        groups.append(int(other[2]))
try:
    try:
        os.setgroups(groups)
    except OSError:
        if open("/proc/self/setgroups").read().strip() != "deny":
            raise
    os.setgid(gid)
    os.setuid(uid)
except OSError as error:
    fail("cannot become the user %s: %s" % (user, error))
if row:
    os.environ.update(HOME=row[5], USER=row[0], LOGNAME=row[0])
try:
    os.execv(sys.executable, [sys.executable] + sys.argv[3:])
except OSError as error:
    fail("the user %s cannot run %s: %s" % (user, sys.executable, error.strerror))
"""


def interpreter(python: "Union[None, str, Sequence[str]]", user: "Union[None, int, str]",
                group: "Union[None, int, str]", lend_python: "Optional[StrPath]" = None,
                place: str = LENT) -> "List[str]":
    """The interpreter's words: the one that is lent, that was asked for, or the first one that is found; and the user.

    With ``lend_python``, ``python`` is its program, from its directory on, and ``{lent}`` in its words is that
    directory. Raises UsageError."""
    words = python_words(python)
    if lend_python is not None:
        words = words or ["bin/python3"]
        words = [word.replace("{lent}", place) for word in words]
        words = words if words[0].startswith("/") else [place + "/" + words[0]] + words[1:]
    return as_user(words or WORDS, user, group)


def lending(lend_python: "Optional[StrPath]", where: "Sequence[str]") -> "Tuple[Commands, Commands]":
    """(before, after) of a plan that lends a Python: copied and removed by ``parent.enter``, which ``where`` tells the
    place. Two empty lists where none is lent. Raises UsageError."""
    if lend_python is None:
        return [], []
    path = checked.path(lend_python, "lend_python")
    start = [HERE, "-ISc", LAUNCHER + "enter"] + list(where) + ["namespaces=mnt,user"]
    return [start + ["lend=" + path, "place=" + LENT, "--"]], [start + ["remove=" + LENT, "--"]]


def as_user(python: "Sequence[str]", user: "Union[None, int, str]", group: "Union[None, int, str]") -> "List[str]":
    """The interpreter's words, which become the user before anything else; those given where user is None.

    user: a name of the account files there, or a number. group: the same; by default the user's own.
    Raises UsageError.
    """
    who, whose = checked_account(user, "user"), checked_account(group, "group")
    if who is None:
        if whose is not None:
            raise UsageError("group= wants user= beside it")
        return list(python)
    return list(python) + ["-c", _BECOME, who, whose or ""]


def checked_account(value: "Union[None, int, str]", what: str) -> "Optional[str]":
    """A ``user=`` or ``group=`` argument as text; raises UsageError."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2 ** 32 - 1:
        return str(value)
    if isinstance(value, str) and re.fullmatch(r"[\w.@\\][\w.@\\$ -]{0,255}", value):
        return value
    raise UsageError("%s= wants a name or a number, not %r" % (what, value))


_LEND = "; say which Python by python=, or lend one by lend_python="
_OURS = (
    (r"contextree: login: (.*)", "login", "{1}"),
    (r"contextree: start: (.*)", "start", "{1}"),
    (r"contextree: connect: (.*)", "connect", "{1}"),
    (r"contextree: boot: (.*)", "boot", "{1}" + _LEND),
    (r"contextree: (no Python 3\.6 or newer: looked for .*)", "boot", "{1}" + _LEND),
)


def verdict(method: str, status: "Optional[int]", output: str, rows: "Sequence[Row]") -> "Tuple[str, str, str]":
    """Why it ended before HELLO: the first row (pattern at the start of a line, phase, text) that the output matches.

    Phase "login" makes an AuthenticationError, others a ConnectError. In a text {0} is the line, {1} ... are groups.
    """
    found = explained([(pattern, "AuthenticationError" if phase == "login" else "ConnectError", phase, text)
                       for pattern, phase, text in _OURS + tuple(rows)], output)
    if found:  # a tool may add to our words: "Error: Command not found"
        return found
    if status in (126, 127):
        return "ConnectError", "there is no {python} there%s%s" % (last_line(output), _LEND), "boot"
    return "ConnectError", "%s %s%s" % (method, how_it_ended(status), last_line(output)), "boot"
