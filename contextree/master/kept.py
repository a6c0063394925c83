"""What costs time to make and seldom changes, kept beside the compiled modules (``__pycache__``) as Python keeps them.

A file is only used when it begins with the digest of all that it was made from. It is written where Python itself would
write, and not at all with ``PYTHONDONTWRITEBYTECODE``; that it cannot be read or written is never an error.
"""

import contextlib
import hashlib
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterable


def kept(name: str, made_from: Iterable[str | bytes], make: Callable[[], bytes]) -> bytes:
    """Return what ``make()`` returns for ``made_from``: read from the file ``name`` there, else made now and kept.

    Any thread."""
    digest = hashlib.blake2b(digest_size=32)
    for part in made_from:
        data = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(data) + data)
    key = digest.digest()
    try:
        path = os.path.join(os.path.dirname(importlib.util.cache_from_source(__file__)), name)
    except NotImplementedError:  # this Python keeps nothing
        return make()
    with contextlib.suppress(OSError), open(path, "rb") as file:
        found = file.read()
        if found.startswith(key):
            return found[len(key):]
    data = make()
    if not sys.dont_write_bytecode:
        with contextlib.suppress(OSError):
            _write(path, key + data)
    return data


def _write(path: str, data: bytes) -> None:
    """Put the file in place whole, so that no other process ever reads half of it."""
    if not os.path.isdir(os.path.dirname(path)):
        return  # a zip archive, or a folder that nothing was compiled into
    part = f"{path}.{os.getpid()}.{threading.get_ident()}"
    try:
        with open(part, "wb") as file:
            file.write(data)
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
