"""Transfers in programs that wait in other ways: without a thread for the tree, and in greenlets."""

import os
import subprocess
import sys
from pathlib import Path

import contextree
from tests.files.tools import census

MB = 1 << 20
ROOT = Path(__file__).resolve().parents[2]


def test_without_a_thread_for_the_tree(tmp_path):
    data = os.urandom(3 * MB)
    with contextree.Router(thread=False) as router:
        one, two = router.local(name="one"), router.local(name="two")
        assert one.put(data, tmp_path / "put") == (1, 3 * MB, 0)
        assert one.get(tmp_path / "put", tmp_path / "got") == (1, 3 * MB, 0)
        assert contextree.put_all([one, two], data, tmp_path / "all") == dict.fromkeys([one, two], (1, 3 * MB, 0))
        assert one.copy_to(tmp_path / "put", two, tmp_path / "copy") == (1, 3 * MB, 0)
    assert census(tmp_path) == dict.fromkeys(["put", "got", "all", "copy"], data)


GREENLETS = """
import gevent.monkey
if sys.argv[2] == "patched":
    gevent.monkey.patch_all()
import gevent
import contextree.gevent

turns = 0

def turn():
    global turns
    while True:
        turns += 1
        gevent.sleep(0)

with contextree.gevent.Router() as router:
    context = router.local()
    other = gevent.spawn(turn)
    jobs = [gevent.spawn(context.put, bytes(3000000), "%s/%d" % (sys.argv[1], number), fsync=False)
            for number in range(5)]
    assert all(job.get() == (1, 3000000, 0) for job in jobs)
    assert turns > 10, turns
    try:
        with gevent.Timeout(0.05):
            context.put(open("/dev/zero", "rb"), sys.argv[1] + "/endless")
    except gevent.Timeout:
        print("ended")
    other.kill()
"""


def test_in_greenlets(tmp_path):
    for kind in ("patched", "not patched"):
        done = subprocess.run([sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", "-c",
                               "import sys" + GREENLETS, str(tmp_path), kind],
                              env=dict(os.environ, PYTHONPATH=str(ROOT)), capture_output=True, text=True, timeout=50)
        assert (done.returncode, done.stdout) == (0, "ended\n"), done.stdout + done.stderr
        assert sorted(os.listdir(tmp_path)) == ["0", "1", "2", "3", "4"]
