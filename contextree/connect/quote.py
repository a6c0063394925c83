"""Quote words for a shell that we do not know.

ssh hands its command to the login shell of the account: sh, dash, bash, ksh, zsh, busybox ash, but as well tcsh, csh
and fish. All of them take a word in single quotes as it stands, with these exceptions, which are therefore refused:

* a single quote ends the word; ``'\\''`` is not the same everywhere (fish reads the backslash inside quotes);
* ``\\`` before ``\\`` or ``'`` is an escape inside fish's single quotes;
* ``!`` is history in csh, in single quotes as well;
* a line end is an error in csh ("Unmatched '"), other control characters are a terminal's business.

BSD's csh takes no word longer than its buffer (between 3,000 and 9,000 bytes): keep the words short.
Tested with the real shells in tests/connect/test_quote.py.
"""

import re

from contextree.core.wire.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Sequence

# No '=', '~' or '%' (zsh's =cmd, home, fish's and csh's jobs), no '@' (a command of csh), no braces.
_PLAIN = re.compile(r"[A-Za-z0-9_./:,+-]+")
_REFUSED = re.compile(r"['\\!\x00-\x1f\x7f-\x9f\u2028\u2029]")


def quote(words: "Sequence[str]", tilde: bool = False) -> str:
    """One string that every one of these shells reads as just these words.

    tilde: a first word that starts with ``~/`` means the home directory there.
    Raises UsageError for a word that cannot be quoted for all of them, and for no words. Any thread.
    """
    out = []  # type: List[str]
    for word in words:
        bad = _REFUSED.search(word)
        if bad:
            raise UsageError("the word %r cannot be quoted for every remote shell: it contains %r" % (
                word if len(word) < 80 else word[:77] + "...", bad.group()))
        if tilde and not out and word.startswith("~/"):
            out.append("~/" + _one(word[2:]) if word[2:] else "~/")
        else:
            out.append(_one(word))
    if not out:
        raise UsageError("there are no words to quote")
    return " ".join(out)


def quote_sh(words: "Sequence[str]") -> str:
    """One string that a POSIX shell, and no other kind, reads as just these words, whatever is in them. Any thread."""
    return " ".join("'%s'" % word.replace("'", "'\\''") for word in words)


def _one(word: str) -> str:
    return word if _PLAIN.fullmatch(word) else "'" + word + "'"
