"""What is remembered and known beforehand is what core makes of it: of every field, with every kind of value."""

import json
import os
import subprocess

import pytest

from tests.ansible import cores
from tests.lab import pythons

pytestmark = [pytest.mark.ansible, pytest.mark.timeout(300)]


@pytest.mark.parametrize("core", [cores.OLDEST, cores.MIDDLE, cores.NEWEST], indirect=True)
def test_it_is_what_core_makes_of_it(core, tmp_path):
    env = dict(os.environ, ANSIBLE_LOCAL_TEMP=str(tmp_path), ANSIBLE_DEPRECATION_WARNINGS="0")
    done = subprocess.run([core.folder / "python", "-m", "tests.ansible.remembered_side"], cwd=pythons.ROOT, env=env,
                          capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["fields"] > 5000
    assert found["differ"] == []
    assert found["templates"]
    assert found["modules"]
    assert found["undone"]
    stock, ours = found["compiled"]
    assert ours < stock if core.number >= (2, 19) else ours == stock  # each text comes twice
