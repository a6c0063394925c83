"""The labs of containers leave nothing, also when the run that had them was killed."""

import os
import subprocess
import sys

import pytest

from tests.lab import boxes, processes
from tests.lab.poll import until

PROGRAM = """
import os, signal, sys
from tests.lab import boxes, handmade, lxc, lxd, machines
box = boxes.kinds()[sys.argv[1]].up()
{use}
print(box.tag, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
USES = {
    "lxc": "",
    "lxd": "",
    "nspawn": "tree = box.tree(); box.daemon('spawn', 'systemd-nspawn', '--register=no', '--keep-unit', '-D', tree, "
              "'sleep', '600'); from tests.lab.poll import until; "
              "until(lambda: list((tree / 'proc').iterdir()) or os.path.exists('/run/systemd/nspawn'), 'it to start')",
    "machines": "",
    "handmade": "box.tree()",
}


def running(tag):
    """Processes that tell by their words that they are of this box."""
    return [pid for pid in processes.every() if tag in processes.command_line(pid) and pid != os.getpid()]


@pytest.mark.parametrize("kind", USES)
def test_a_killed_run_is_swept(request, kind):
    request.getfixturevalue(kind + "_box")  # skips where it cannot be had
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(use=USES[kind]), kind], stdout=subprocess.PIPE,
                          text=True, timeout=50, check=False)
    assert done.returncode == -9
    tag = done.stdout.strip()
    assert (boxes.RUN / ("ctxt-" + tag)).exists()
    boxes.sweep()
    assert not (boxes.RUN / ("ctxt-" + tag)).exists()
    assert not boxes.mounts(boxes.RUN / ("ctxt-" + tag))
    assert not boxes.cgroups(tag)
    until(lambda: not running(tag), "processes of it to be gone")
    assert not list(boxes.RUN.glob("systemd/nspawn/*/*%s*" % tag))
