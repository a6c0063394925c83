"""Modules that are built ahead are what stock builds, and nothing tells but the time that it takes."""

import base64
import io
import re
import signal
import zipfile
from pathlib import Path

import pytest

from tests.ansible import compare, cores
from tests.ansible.endings import OF_STOCK, Run
from tests.ansible.plays import play
from tests.lab.poll import until

pytestmark = [pytest.mark.ansible, pytest.mark.timeout(540)]

EVERY = [cores.OLDEST, cores.MIDDLE, cores.NEWEST]
MANY = """
- hosts: all
  gather_facts: false
  tasks:
    - setup:
    - copy: {content: x, dest: "{{ work }}/x"}
    - lineinfile: {path: "{{ work }}/x", line: x}
    - find: {paths: "{{ work }}"}
    - shell: sleep 600
"""


@pytest.fixture(scope="module", autouse=True)
def _materials(lab):
    """What the lab starts when a playbook is first run is the module's."""
    lab.materials()


def archives(folder):
    """{name in core's cache: [(name, content, how it is compressed) of each file]}; all but the dates."""
    found = {}
    for path in Path(folder).iterdir():
        data = max(re.findall(rb"[A-Za-z0-9+/=]+", path.read_bytes()), key=len)  # since 2.19 within a pickle
        with zipfile.ZipFile(io.BytesIO(base64.b64decode(data))) as opened:
            found[path.name] = [(info.filename, opened.read(info), info.compress_type) for info in opened.infolist()]
    return found


@pytest.mark.parametrize("core", EVERY, indirect=True)
def test_archives_are_those_of_stock(lab, core):
    hosts = {"h1": {}, "here": {}}
    stock = play(lab, core, "ahead.yml", "stock", hosts=hosts, timeout=200)
    assert stock.status == 0, stock.stdout + stock.stderr
    wanted = archives(lab.work / "cache")
    ours = play(lab, core, "ahead.yml", "strategy", hosts=hosts, timeout=200,
                environ={"PYTHONPYCACHEPREFIX": str(lab.run / "pyc")})  # nothing kept
    found = archives(lab.work / "cache")
    ahead = (lab.run / "home/.ansible/built-ahead").read_text().split()
    for outcome in stock, ours:
        outcome.made = {path: what for path, what in outcome.made.items() if not path.startswith("cache")}
    assert compare.differences(stock, ours) == []
    assert stock.status == 0, stock.stdout + stock.stderr
    assert ours.left == []
    assert sorted(found) == sorted(wanted)
    assert found == wanted
    assert len(ahead) >= 3, ahead


@pytest.mark.parametrize("core", EVERY, indirect=True)
def test_archives_of_core_are_kept_for_the_next_run(lab, core, tmp_path):
    hosts = {"h1": {}, "here": {}}
    kept = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}  # nothing kept so far
    stock = play(lab, core, "kept/main.yml", "stock", hosts=hosts)
    assert stock.status == 0, stock.stdout + stock.stderr
    wanted = archives(lab.work / "cache")
    runs = []
    for _ in range(2):
        ours = play(lab, core, "kept/main.yml", "strategy", hosts=hosts, environ=kept)
        assert ours.status == 0, ours.stdout + ours.stderr
        assert archives(lab.work / "cache") == wanted
        runs.append({path.name: path.read_bytes() for path in Path(lab.work, "cache").iterdir()})
    assert runs[0] == runs[1]  # the dates within are those of the first run
    found = sorted(tmp_path.rglob("archives/*/*/*"))
    assert {path.name for path in found} >= set(wanted)  # what was built ahead and not needed is kept, too
    # where there are module_utils from elsewhere they are of no use, and what is built is not kept
    ours = play(lab, core, "ahead.yml", "strategy", hosts=hosts, timeout=200, environ=kept)
    assert ours.status == 0, ours.stdout + ours.stderr
    assert sorted(tmp_path.rglob("archives/*/*/*")) == found
    others = {path.name: path.read_bytes() for path in Path(lab.work, "cache").iterdir()}
    assert all(others[name] != data for name, data in runs[0].items() if name in others)


@pytest.mark.parametrize("core", EVERY, indirect=True)
def test_what_is_said_while_a_module_is_built(lab, core):
    hosts = {"h1": {}}
    stock = play(lab, core, "told.yml", "stock", hosts=hosts)
    ours = play(lab, core, "told.yml", "strategy", hosts=hosts)
    assert compare.differences(stock, ours) == []
    assert stock.status == 0, stock.stdout + stock.stderr
    assert ours.left == []
    for outcome in stock, ours:
        assert " ".join((outcome.stdout + outcome.stderr).split()).count("Take the current one") >= 1


@pytest.mark.parametrize("how", ["Ctrl-C", "KILL"])
def test_ended_while_something_is_built(lab, core, how):
    with Run(lab, core, MANY, "strategy", hosts={"h1": {}}) as run:
        shelf = Path(lab.run, "home/.ansible/tmp")
        until(lambda: len(list(shelf.glob("*/contextree.archives/*.lock"))) > 1, "more than one to be built", 40)
        if how == "Ctrl-C":
            run.interrupt()
        else:
            run.process.send_signal(signal.SIGKILL)
        run.end()
        assert run.left(but=OF_STOCK if how == "KILL" else "nothing but this") == []


@pytest.mark.parametrize("words", [("-vvv",), ("-e", "ansible_module_compression=ZIP_STORED"), ()])
def test_when_nothing_is_built_ahead(lab, core, words):
    """Core tells of building; the archives are others; a worker for each task."""
    ours = play(lab, core, "ahead.yml", "strategy", hosts={"here": {}}, args=words,
                environ={} if words else {"ANSIBLE_CONTEXTREE_WORKERS": "forked"})
    assert ours.status == 0, ours.stdout + ours.stderr
    assert (lab.run / "home/.ansible/built-ahead").read_text() == ""
