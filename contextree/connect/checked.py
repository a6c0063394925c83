"""Arguments that become words of a command line, checked: what no program can take for an option or for two lines.

All raise UsageError, which names the argument. Any thread.
"""

import re

from contextree.core.wire.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Sequence, Union

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_BLANK = re.compile(r"[\s\x00-\x20\x7f-\xa0\u2028\u2029]")


def text(word: object, what: str) -> str:
    """One word, whatever it begins with."""
    if not isinstance(word, str) or not word or _CONTROL.search(word):
        raise UsageError("%s= has %r in it; it wants str without control characters" % (what, word))
    return word


def value(word: object, what: str) -> str:
    """The value of an option, such as a user or a directory; a number becomes text."""
    if isinstance(word, int) and not isinstance(word, bool) and word >= 0:
        word = str(word)
    if not isinstance(word, str) or not word or word.startswith("-") or _CONTROL.search(word):
        raise UsageError("%s=%r: it is empty, begins with '-', or has control characters in it" % (what, word))
    return word


def target(word: object, what: str) -> str:
    """The name of a container, an instance, a machine ..."""
    if not isinstance(word, str) or not word or word.startswith("-") or _BLANK.search(word):
        raise UsageError("%r is no %s: it is empty, begins with '-', or has blanks or control characters in it" % (
            word, what))
    return word


def further(words: "Union[str, Sequence[str]]", what: str) -> "List[str]":
    """Further words: a str, which is split at blanks, or a sequence."""
    return [text(word, what) for word in (words.split() if isinstance(words, str) else list(words))]


def program(words: "Union[str, Sequence[str]]", what: str) -> "List[str]":
    """A program and words that always follow it: as ``further``, and not empty."""
    found = further(words, what)
    if not found:
        raise UsageError("%s= is empty; it wants the program's name, or a list of words" % what)
    return found


def path(place: object, what: str) -> str:
    """A path, of any type that is one; one that begins with '-' gets a './'."""
    fspath = getattr(place, "__fspath__", None)
    found = text(place if fspath is None else fspath(), what)
    return "./" + found if found.startswith("-") else found
