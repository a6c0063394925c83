"""``subprocess.Popen`` as the standard library has it, also in a program that gevent has monkey-patched.

gevent's would watch, and reap, the child itself, works on the thread of its default loop alone, and leaves the module
that it patches unable to start anything. So there it is loaded a second time, with the real functions of ``os``.
"""

import os
import sys

from contextree.core import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

copy = None  # type: Any


def popen() -> "Any":
    """The class. From any thread."""
    global copy
    if "gevent.monkey" not in sys.modules:
        import subprocess

        return subprocess.Popen
    if copy is None:
        from importlib.util import find_spec, module_from_spec

        spec = find_spec("subprocess")  # type: Any
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        plain = module.__dict__["os"] = type(sys)("os")
        plain.__dict__.update({name: process.unpatched("os", name) for name in dir(os)})
        copy = module
    return copy.Popen
