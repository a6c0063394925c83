"""``subprocess.Popen`` as the standard library has it, also in a program that gevent has monkey-patched.

gevent's own works on the thread of its default loop alone, and takes the child's status with a watcher of its own. The
original class is of no use then either: gevent takes functions away that it needs. So such programs get a second, fresh copy
of the module.
"""

import sys

copy = None


def popen():
    """The class."""
    global copy
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("subprocess"):
        import subprocess

        return subprocess.Popen
    if copy is None:
        from importlib.util import find_spec, module_from_spec

        spec = find_spec("subprocess")
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        copy = module
    return copy.Popen
