"""Why a command ended: tables of what programs say, and what it means.

A row is (pattern at the beginning of a line, error class name, phase, message); in the message {0} is the line and
{1} ... are the pattern's groups. Patterns are compiled when something went wrong, not wherever a plan is carried out.
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable, Match, Optional, Tuple

    Row = Tuple[str, str, str, str]
    Reason = Tuple[str, str, str]  # error class name, message, phase: what ``Plan.classify`` returns

_MISSING = r"(?m)^\S+: (?:line )?\d*:? ?exec: (?:line \d+: )?(\S+): (?:not found|cannot execute|Permission)"


def explained(rows: "Iterable[Row]", output: str) -> "Optional[Reason]":
    """What the first row says that the output matches; None if none does."""
    for pattern, error, phase, text in rows:
        match = re.search("(?m)^(?:%s)" % pattern, output)
        if match:
            return error, filled(text, match), phase
    return None


def filled(text: str, match: "Match[str]") -> str:
    """A message with the line and the groups of a match."""
    start = match.string.rfind("\n", 0, match.start()) + 1
    whole = match.string[start:].split("\n", 1)[0].strip()
    for number, part in enumerate((whole,) + match.groups()):
        text = text.replace("{%d}" % number, part or "")
    return text


def missing(status: "Optional[int]", output: str) -> "Optional[str]":
    """The program that the shell before it (``parent.tty``, ``parent.steps``) could not become, if so it was."""
    match = re.search(_MISSING, output) if status in (126, 127) else None
    return match and match.group(1)
