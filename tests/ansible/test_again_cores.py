"""Core's own ``stat``, run again and again by one process, and by a Python of its own: the same results."""

import base64
import functools
import json
import os
import subprocess

import pytest

from tests.ansible import warm_side
from tests.ansible.test_warm_cores import NEW, TARGETS, masked, side
from tests.lab import pythons
from tests.lab.poll import until

pytestmark = pytest.mark.ansible


@functools.cache
def built(core, folder):
    """Payloads of ``stat``: [(arguments, text, what is in it)]."""
    paths = [str(folder / name) for name in ("file", "link", "loop", "fifo", "caf\u00e9", "none")] + [str(folder)]
    wanted = [{"path": path, "follow": follow} for path in paths for follow in (False, True)]
    wanted += [{"path": paths[0], "checksum_algorithm": name} for name in ("md5", "sha1", "sha256", "sha512")]
    wanted += [{"path": path, "get_mime": False, "get_checksum": False, "get_attributes": False} for path in paths]
    wanted += [{"path": "~"}, {"path": "$HOME/x"}, {"path": "relative"}, {}, {"path": paths[0], "bogus": 1},
               {"path": paths[0], "_ansible_check_mode": True}, {"path": "x" * 5000}, {"path": "/proc/self/mem"}]
    done = subprocess.run([str(core.folder / "python"), "-m", "tests.ansible.build"], stdout=subprocess.PIPE, text=True,
                          input=json.dumps([["stat", each, {}] for each in wanted]), check=True, timeout=120,
                          cwd=pythons.ROOT)
    texts = []
    for arguments, (text, (digest, data, task)) in zip(wanted, json.loads(done.stdout), strict=True):
        task["params"] = task["params"].encode()
        texts.append((arguments, base64.b64decode(text), digest, base64.b64decode(data), task))
    return texts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with files of all kinds."""
    folder = tmp_path_factory.mktemp("looked_at")
    (folder / "file").write_text("x" * 100)
    (folder / "caf\u00e9").write_text("y")
    (folder / "link").symlink_to("file")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "fifo")
    return folder


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("core", "minor"), [(core, minor) for core in TARGETS for minor in TARGETS[core]
                                             if minor not in NEW], indirect=["core"])
def test_stat_as_in_stock(core, minor, folder):
    """Whatever it looks at. What is right is done by one process."""
    different = []
    with side(minor) as context:
        all_of_them = built(core, folder)
        _, _, digest, data, task = all_of_them[0]

        def helped():
            context.call(warm_side.run, digest, data, dict(task, again=True))
            return context.call(warm_side.helpers)

        for arguments, text, digest, data, task in all_of_them:
            before = until(helped, "a process that does it again")
            ours = masked(context.call(warm_side.run, digest, data, dict(task, again=True, cwd=str(folder))))
            after = context.call(warm_side.helpers)
            stock = masked(context.call(warm_side.stock, text, {}, str(folder)))
            if ours != stock:
                different.append("%s:\n  ours  %s\n  stock %s" % (arguments, ours, stock))
            if not ours[0] and before != after:
                different.append("%s was the last that it did" % arguments)
    assert not different, "\n".join(different)
