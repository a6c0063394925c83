"""The labs of docker and podman leave nothing behind, also where the run that made them was killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import containers, processes, rootfs

ROOT = Path(__file__).resolve().parents[2]
MAKE = """
import sys
from tests.lab import containers
lab = getattr(containers, sys.argv[1]).up()
print(lab.directory, flush=True)
input()
"""


@pytest.mark.parametrize("kind", [containers.Docker, containers.Podman])
def test_a_killed_run_is_swept_away(kind):
    words = [sys.executable, "-c", MAKE, kind.__name__]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=dict(os.environ, PYTHONPATH=str(ROOT))) as run:
        directory = run.stdout.readline().decode().strip()
        if not directory:
            pytest.skip("%s: %s" % (kind.kind, run.stderr.read().decode().strip().splitlines()[-1]))
        run.kill()
    left = [processes.identity(pid) for pid in processes.every() if directory in processes.command_line(pid)]
    assert left
    kind.sweep()
    assert not Path(directory).exists()
    assert not any(processes.alive(who) for who in left)
    assert directory not in Path("/proc/mounts").read_text()


def test_a_python_that_needs_nothing_of_the_machine(tmp_path):
    folder = rootfs.standalone(tmp_path / "python")
    answer = subprocess.run([folder / "bin" / "python3", "-c", "import sys, ssl; print(sys.prefix, sys.executable)"],
                            capture_output=True, text=True, check=True, env={})
    assert answer.stdout.split() == [str(folder), str(folder / "bin" / "python3")]
