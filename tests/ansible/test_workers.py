"""What workers that stay share with each other and leave of a task: locks, open files."""

import subprocess

import pytest

from tests.ansible import cores
from tests.ansible.plays import play
from tests.bench.ansible.sides import ROOT

pytestmark = [pytest.mark.ansible, pytest.mark.timeout(200)]

LOCKS = """
import os, sys
sys.path.insert(0, sys.argv[1])
from ansible import constants as C
from ansible.executor import module_common
from ansible_plugin.controller import archives

def held():
    return getattr(getattr(module_common, "action_write_locks", None), "action_write_locks", None)

before = held()
path = os.path.join(C.DEFAULT_LOCAL_TMP, "count")
open(path, "w").write("0")
with archives.shared():
    locks = held()
    print("none" if locks is None else type(locks).__name__, flush=True)
    children = []
    for name in ("ping", "ansible.builtin.ping", "ansible.legacy.ping") if locks is not None else ():
        for _ in range(2):
            pid = os.fork()
            if pid == 0:  # as workers do, which have been forked at different times
                for _ in range(50):
                    assert name in locks
                    with locks[name]:
                        number = int(open(path).read())
                        os.sched_yield()
                        open(path, "w").write(str(number + 1))
                os._exit(0)
            children.append(pid)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
print(open(path).read(), held() is before)
"""


@pytest.mark.parametrize("core", cores.PYTHONS, indirect=True)
def test_archives_are_built_by_one_worker_at_a_time(core, tmp_path):
    """Before 2.19 core has locks for that, made when a task is queued; ours are those of files, and for any name."""
    done = subprocess.run([str(core.folder / "python"), "-W", "ignore", "-c", LOCKS, str(ROOT)], capture_output=True,
                          text=True, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8",
                                          "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 0, done.stderr
    kind, count, restored = done.stdout.split()
    assert restored == "True"
    assert (kind, count) == (("Locks", "300") if core.number < (2, 19) else ("none", "0"))


@pytest.mark.parametrize("core", cores.PYTHONS, indirect=True)
def test_a_worker_that_stays_opens_no_more_files(lab, core):
    """Before 2.19 core opens another standard output at the end of each task."""
    lab.materials()
    ours = play(lab, core, "strategy/streams.yml", "strategy", hosts={"here": {}})
    assert (ours.status, ours.left) == (0, []), ours.stdout
    said = [row["result"]["msg"].split()[1:] for row in ours.rows
            if str(row["result"].get("msg")).startswith("open ")]
    assert len(said) == 3
    assert len({pid for _, pid in said}) == 1, "they were done by several workers: %r" % said
    assert int(said[2][0]) < int(said[1][0]) + 12, "twenty tasks later: %r" % said
