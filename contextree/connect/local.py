"""An interpreter of its own on the same machine, as the same user: pipes, no shell, no dialogue."""

from contextree.connect.plan import (
    PYTHON,
    Plan,
    checked_env,
    checked_name,
    checked_phases,
    how_it_ended,
    last_line,
    python_words,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Optional, Sequence, Tuple, Union


def plan(python: "Union[None, str, Sequence[str]]" = None, env: "Optional[Dict[str, Optional[str]]]" = None,
         connect_timeout: "Union[float, Dict[str, float]]" = 30, name: "Optional[str]" = None) -> "Plan":
    """A Plan for an exec'd interpreter.

    python: its command, a list of words or a str that is split as a shell would; None: the one that starts it.
    env: variables to add; None as a value removes one. connect_timeout: seconds for each phase, or a dict with some of
    "connect", "boot". name: the context's name, ``local`` if not given.
    Raises UsageError. Any thread.
    """
    return Plan([PYTHON], checked_name(name, "local"), "local", env=checked_env(env), python=python_words(python),
                trusted=True, phases=checked_phases(connect_timeout), classify=classify)


def classify(method: str, status: "Optional[int]", output: str) -> "Tuple[str, str, str]":
    """Why a local interpreter ended before HELLO: (error class name, message, phase)."""
    hint = ""
    if status in (126, 127):                     # python= was a wrapper such as env
        hint = "; give another command by python="
    return "ConnectError", "the local interpreter %s before it said hello%s%s" % (
        how_it_ended(status), last_line(output), hint), "boot"
