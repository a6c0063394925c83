"""Which interpreter, where the caller did not say: the first one that is found there, in the same round trip.

``WORDS`` stand where the interpreter's command would: a line of POSIX shell that looks for one and becomes it, with the
words that follow. Without single quote, backslash, exclamation mark or line end, as it goes through login shells of any
kind (see ``contextree.connect.quote``). What complains is given no stderr rather than /dev/null: in a root directory
without devices root's shell would make a file of that name.

What a name resolves to tells a Python that is too old (``python3`` is 3.5 on Debian 9, ``python`` is 2.7 on many)
without starting it. Starting each to ask it would cost 15 ms and more.
"""

#: What is looked for, in this order. platform-python: RHEL 8, where nothing else need be installed.
NAMES = (("python3",) + tuple("python3.%d" % minor for minor in range(16, 5, -1))
         + ("/usr/libexec/platform-python", "/usr/local/bin/python3", "/usr/bin/python3", "/opt/homebrew/bin/python3",
            "python"))

_SCRIPT = (
    "for p in %s; do "
    "q=$(command -v $p 2>&-) || continue; "
    "case $(readlink -f $q 2>&- || echo $q) in *python2*|*python3.[0-5]) old=$old\" $q\"; continue;; esac; "
    "exec $q \"$@\"; done; "
    "echo \"contextree: no Python 3.6 or newer: looked for %s in PATH=$PATH${old:+; too old:$old}\" >&2; exit 127"
) % (" ".join(NAMES), " ".join(NAMES))

WORDS = ("sh", "-c", _SCRIPT, "contextree")
