"""A program run in a context: what comes back is plain data, so that it may come from anywhere."""

import subprocess

from contextree.core.wire.errors import CallTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Sequence, Tuple


def run(argv: "Sequence[str]", timeout: "Optional[float]" = None, data: bytes = b"") -> "Tuple[int, bytes, bytes]":
    """Run ``argv`` with ``data`` as its input, to its end: (exit status or minus the signal, stdout, stderr).

    Raises OSError when it cannot be started, CallTimeout when it took too long; then it was killed. Any thread but the
    loop's.
    """
    try:
        done = subprocess.run(list(argv), input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise CallTimeout("%s took more than %s s and was killed" % (argv[0], timeout)) from None
    return done.returncode, done.stdout, done.stderr
