"""Which archives of modules are core's own ``stat``: that only looks, so one process on a host may run it again and
again (docs/decisions/0037)."""

import importlib.util
import io
import os
import zipfile

MODULE = "ansible.modules.stat"
MADE = "ansible/__init__.py", "ansible/module_utils/__init__.py"  # of a few lines by core, when it builds an archive
GENERATED = 1000  # bytes, at most, of such


def is_stat(data: bytes) -> bool:
    """Whether an archive is core's ``stat``, with no file that is not the installed core's own."""
    found = importlib.util.find_spec("ansible")
    if found is None or not found.origin:
        return False
    folder = os.path.dirname(os.path.abspath(found.origin))
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            modules = [name for name in names if name.startswith("ansible/modules/")]
            if sorted(modules) != ["ansible/modules/__init__.py", "ansible/modules/stat.py"]:
                return False
            for name in names:
                if name in MADE and archive.getinfo(name).file_size < GENERATED:
                    continue
                path = os.path.normpath(os.path.join(os.path.dirname(folder), name))
                if not path.startswith(folder + os.sep):
                    return False
                with open(path, "rb") as file:
                    if file.read() != archive.read(name):
                        return False
    except (OSError, zipfile.BadZipFile):
        return False
    return True
