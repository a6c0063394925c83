"""What docker, podman, buildah and kubectl have in common: arguments that are checked, a Python that is lent, errors.

The interpreter's command is the last of the tool's words, and the tool's own stdin and stdout are the link. Nothing
runs in the container but that interpreter, so nothing stays there: it ends at the end of file that it reads when the
tool is gone.

Variables go by ``-e NAME``, without the value: the tool takes that from its own environment, which only its user can
read, where everybody can read a command line. So names that mean something to the tool itself are refused.

A Python is lent by copying it to a fresh directory of the container, ``Plan.before``, and removed by ``Plan.after``, by
itself (a container may have no ``rm``), or by ``rm`` where it does not run there.
"""

import re

from contextree.connect import checked
from contextree.connect.discover import LOOKED_FOR, WORDS, not_found
from contextree.connect.plan import TOKEN, how_it_ended, last_line, python_words
from contextree.connect.quote import quote_sh
from contextree.core.first_stage import SAFE
from contextree.core.wire.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, List, Match, Optional, Pattern, Sequence, Tuple, Union

    from _typeshed import StrPath

    Words = Union[str, Sequence[str]]
    Classify = Callable[[str, Optional[int], str], Tuple[str, str, str]]

_BAD = re.compile(r"[\s\x00-\x20\x7f-\xa0\u2028\u2029]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Variables that docker, podman, and what they are made of and start (Go, ssh, the loader), read themselves.
_THEIRS = re.compile("(?i)(?:PATH|HOME|USER|TMPDIR|SHELL|TERM|GO.*|LD_.*|GLIBC_.*|DOCKER_.*|CONTAINERS?_.*|PODMAN_.*"
                     "|BUILDAH_.*|STORAGE_.*|REGISTRY_.*|XDG_.*|SSH_.*|DBUS_.*|LISTEN_.*|NOTIFY_SOCKET|.*_PROXY)")

#: Where a lent Python lies in a container: in the root directory, which no mount hides.
LENT = "/.contextree-" + TOKEN

_RUNNING = ('s=$("$@") || exit\ncase $s in "true false") ;; *true) echo "Container is paused" >&2; exit 1 ;; '
            '*) echo "Container is not running" >&2; exit 1 ;; esac')
# Bytecode that the last interpreter is just writing may come in between.
_REMOVE = ("import os,shutil,sys,time\nd=sys.argv[1]\nfor w in 0,.1,.4,2:\n time.sleep(w)\n shutil.rmtree(d,1)\n"
           " os.path.exists(d) or sys.exit()\nsys.exit('cannot remove '+d)")


# -- arguments

def checked_path(path: "StrPath", what: str) -> str:
    """A path here, which docker takes for no other: it begins with a slash or a dot. Raises UsageError."""
    text = checked.path(path, what).rstrip("/") or "/"
    return text if text.startswith("/") else "./" + text


def variables(env: "Optional[Dict[str, str]]", tool: str) -> "Tuple[List[str], Optional[Dict[str, Optional[str]]]]":
    """(options for the command line, environment of the tool) of an ``env=`` argument. Raises UsageError."""
    words = ["-e", "=".join(SAFE)]
    if not env:
        return words, None
    given = {}  # type: Dict[str, Optional[str]]
    for key, value in env.items():
        if not isinstance(key, str) or not key or "=" in key or key.startswith("-") or _BAD.search(key):
            raise UsageError("env= has the name %r; a name is not empty and has no '=' or blanks in it" % (key,))
        if not isinstance(value, str) or "\0" in value:
            raise UsageError("env= wants a str as the value of %s, not %s; a variable cannot be removed there"
                             % (key, type(value).__name__))
        if _THEIRS.fullmatch(key):
            raise UsageError("env= has %s, which means something to %s itself; say python=['env', '%s=...', 'python3']"
                             % (key, tool, key))
        words += ["-e", key]
        given[key] = value
    return words, given


# -- the interpreter

def interpreter(python: "Union[None, Words]", lend_python: "Optional[StrPath]") -> "List[str]":
    """The interpreter's words: the one that is lent, the one that was asked for, or the first one that is found.

    With ``lend_python``, ``python`` is its program, from its directory on, and ``{lent}`` in it is that directory.
    Raises UsageError."""
    words = python_words(python)
    if lend_python is None:
        return words or list(WORDS)
    words = [word.replace("{lent}", LENT) for word in words or ["bin/python3"]]
    return words if words[0].startswith("/") else [LENT + "/" + words[0]] + words[1:]


def lend(tool: "Sequence[str]", container: str, path: str,
         python: "Sequence[str]") -> "Tuple[List[List[str]], List[List[str]]]":
    """(before, after) of a plan that lends a Python: by ``cp``, once the container is known to run."""
    inspect = ["inspect", "--type", "container", "--format", "{{.State.Running}} {{.State.Paused}}", container]
    before = [["/bin/sh", "-c", _RUNNING, "contextree"] + list(tool) + inspect,
              list(tool) + ["cp", path + "/.", container + ":" + LENT]]
    run = list(tool) + ["exec", "-u", "0", container]
    after = [["/bin/sh", "-c", "%s 2>/dev/null || %s" % (
        quote_sh(run + list(python) + ["-ISc", _REMOVE, LENT]), quote_sh(run + ["rm", "-rf", "--", LENT]))]]
    return before, after


# -- errors

_NOT_RUN = re.compile(r'(?m)exec: "([^"\n]+)": (executable file not found|stat [^\n]*|permission denied|[^\n]*)')
_NOT_RUN_BY_CRUN = re.compile(r"executable file `([^`\n]+)` (not found)")
# What the tools add to what was said there.
_ADDED = re.compile(r"(?m)^(?:command terminated with .*|subprocess exited .*|Error: (?:while running runtime: )?exit "
                    r"status \d+)$")
_GONE = re.compile(r"(?m)^.*exec (/\S+): no such file or directory")


def not_run(output: str, where: str, lends: bool = True) -> "Optional[Tuple[str, str, str]]":
    """The error of a container whose runtime says that the interpreter cannot be run; None where it says no such
    thing."""
    text = output.replace('\\"', '"')
    match = _NOT_RUN.search(text) or _NOT_RUN_BY_CRUN.search(text)
    if match is None:
        gone = _GONE.search(text)
        if gone is None:
            return None
        return "ConnectError", "%s in %s cannot be run there: its loader or a library is missing" % (
            gone.group(1), where), "boot"
    advice = "say which Python by python=" + (", or lend one by lend_python=" if lends else "")
    program, why = match.groups()
    if program == WORDS[0]:
        return "ConnectError", "%s has no sh to look for a Python with (for %s); %s" % (
            where, LOOKED_FOR, advice), "boot"
    if why.startswith("permission"):
        return "ConnectError", "%s in %s may not be run (permission denied); %s" % (program, where, advice), "boot"
    return "ConnectError", "%s has no %s; %s" % (where, program, advice), "boot"


def ended(status: "Optional[int]", output: str, where: str, lends: bool = True) -> "Tuple[str, str, str]":
    """What is left to say: how the command ended there."""
    output = _ADDED.sub("", output)
    advice = ", or lend one by lend_python=" if lends else ""
    if not_found(output):
        return "ConnectError", "%s has %s%s" % (where, not_found(output), advice), "boot"
    if status == 137:
        text = ("the interpreter in %s was killed before it said hello (status 137): there is not enough memory for it,"
                " or the container was stopped" % where)
    elif "OCI runtime" in output:
        text = "the runtime of %s does not start the interpreter%s" % (where, last_line(output))
    elif status == 127:
        text = "%s has no such Python%s; say which by python=%s" % (where, last_line(output), advice)
    elif status == 126:
        text = "%s cannot run this Python%s; say which by python=" % (where, last_line(output))
    else:
        text = "the interpreter in %s %s before it said hello%s" % (where, how_it_ended(status), last_line(output))
    return "ConnectError", text, "boot"
