"""Functions of a script that is no module go by value, and nothing is said about it."""

import subprocess
import sys

SCRIPT = """
import contextree

def area(width, height):
    return width * height

with contextree.Router() as router:
    worker = router.local()
    print(worker.call(area, 6, 7), worker.call(lambda x: -x, 1))
"""


def test_functions_of_an_unguarded_script_go_by_value_without_a_warning(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "42 -1\n", "")
