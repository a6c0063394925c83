"""The low floors on real old Pythons: vermin judges features, this compiles the files where they must run."""

import json
import subprocess

import pytest

from tests.lab.pythons import ROOT, one_each

FLOORS = ("contextree/core", "contextree/connect", "contextree/parent", "ansible_plugin/target")
# The text is sent, for a Python in a chroot cannot see the files.
COMPILE = """
import json, sys
files = json.load(sys.stdin)
for path in files:
    compile(files[path], path, "exec")
print("compiled %d files" % len(files))
"""


def low_floor_files():
    """{path: text} of every file that a target runs."""
    paths = [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths}


@pytest.mark.parametrize("minor", [minor for minor in one_each() if minor != "2.7"])
def test_low_floors_compile_on(minor):
    files = low_floor_files()
    done = one_each()[minor].run(
        "-W", "error", "-c", COMPILE, input=json.dumps(files), stderr=subprocess.STDOUT, check=False
    )
    assert done.stdout.strip() == "compiled %d files" % len(files)
    assert files
