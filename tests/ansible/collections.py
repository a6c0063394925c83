"""The collections whose connections ours stand for, taken out of the ``ansible`` package; kept in the cache.

    python -m tests.ansible.collections
"""

import fcntl
import functools
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tests.ansible.cores import CannotMake
from tests.lab import pythons

VERSION = "12.3.0"  # of the package ansible; its collections take ansible-core 2.17 and newer, and warn before
TAKEN = ("community/docker", "community/general", "community/library_inventory_filtering_v1", "community/okd",
         "containers/podman", "kubernetes/core", "ansible/posix")
PARTS = ("plugins/connection/", "plugins/module_utils/", "plugins/plugin_utils/", "plugins/doc_fragments/",
         "plugins/shell/", "plugins/become/", "meta/runtime.yml", "MANIFEST.json")


@functools.cache
def make() -> Path:
    """The folder that has them, for ANSIBLE_COLLECTIONS_PATH. CannotMake says why there is none. For one thread."""
    home = pythons.cache_directory() / ("ansible-collections-" + VERSION)
    with open(home.with_name(home.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            with tempfile.TemporaryDirectory(dir=home.parent) as folder:
                words = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:",
                         "--python-version", "3.13", "--dest", folder, "ansible==" + VERSION]
                done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True)
                if done.returncode:
                    raise CannotMake("collections: " + " / ".join(done.stdout.strip().splitlines()[-2:]))
                made = Path(folder, "made")
                take(next(Path(folder).glob("ansible-*.whl")), made)
                shutil.move(made, home)
    return home


def take(wheel: Path, folder: Path) -> None:
    """Take out what is needed of them."""
    prefixes = tuple("ansible_collections/%s/%s" % (name, part) for name in TAKEN for part in PARTS)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(prefixes)])


if __name__ == "__main__":
    print(make())
