"""Which interpreter, where the caller did not say: the first one that is found there, in the same round trip.

``WORDS`` stand where the interpreter's command would: a line of POSIX shell that looks for one and becomes it, with the
words that follow. Without single quote, backslash, exclamation mark or line end, as it goes through login shells of any
kind (see ``contextree.connect.quote``). It sets ``first_stage.SAFE`` itself, so nobody needs ``env`` before it. What
complains is given no stderr rather than /dev/null: in a root directory without devices root's shell would make a file
of that name.

Nothing is started to ask what it is, which would cost 15 ms and more for each:

* what a name resolves to tells a Python that is too old (``python3`` is 3.5 on Debian 9, ``python`` is 2.7 on many);
* a program is taken at its word; a script (its first character is ``#``) is tried first, since the shims of pyenv and
  its kind are there and run nothing. Only the shell reads, and it has read less than a kilobyte at the first line end.

``sh`` by its name, not ``/bin/sh``, which a restricted shell refuses.
"""

import re

from contextree.core.first_stage import SAFE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Tuple

#: What is looked for, in this order. platform-python: RHEL 8, where nothing else need be installed.
NAMES = (("python3",) + tuple("python3.%d" % minor for minor in range(16, 5, -1))
         + ("/usr/libexec/platform-python", "/usr/local/bin/python3", "/usr/bin/python3", "/opt/homebrew/bin/python3",
            "python"))
LOOKED_FOR = "python3, python3.16 to python3.6, %s" % ", ".join(NAMES[12:])

_TRIAL = "import sys; sys.exit(sys.version_info<(3,6))"
_SCRIPT = (
    "export %s; for p in %s; do "
    "q=$(command -v $p 2>&-) || continue; "
    "case $(readlink -f \"$q\" 2>&- || echo \"$q\") in "
    "*python2*|*python3.[0-5]|*python3.[0-5]m) old=\"$old $q\"; continue;; esac; "
    "l=; { read -r l <\"$q\"; } 2>&-; "
    "case $l in \"#\"*) \"$q\" -c \"%s\" <&- >&- 2>&- || { bad=\"$bad $q\"; continue; };; esac; "
    "exec \"$q\" \"$@\"; done; "
    "echo \"contextree: no Python 3.6 or newer: looked for %s${old:+; too old:$old}${bad:+; does not run:$bad}; "
    "PATH=$PATH\" >&2; exit 127"
) % ("=".join(SAFE), " ".join(NAMES), _TRIAL, LOOKED_FOR)

WORDS = ("sh", "-c", _SCRIPT, "contextree")



def beginning_with(path: str) -> "Tuple[str, ...]":
    """``WORDS`` that look at this path before all others; at no other one where it has odd characters."""
    if not re.fullmatch(r"[\w/.+-]+", path, re.ASCII):
        return WORDS
    return WORDS[:2] + (_SCRIPT.replace("for p in ", "for p in %s " % path, 1),) + WORDS[3:]


_NONE = re.compile(r"(?m)^contextree: (no Python 3\.6 or newer.*)")


def not_found(output: str) -> "Optional[str]":
    """What the search says in a command's last lines if it found none: a sentence without its end, else None."""
    match = _NONE.search(output)
    return match and match.group(1).strip() + "; say which by python="
