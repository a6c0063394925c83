"""Callbacks are called in the same order and with the same arguments as in stock, and what they print or write is the
same."""

import json
import re

import pytest

from tests.ansible import compare, cores, masks
from tests.ansible.lab import HERE, PLAYBOOKS
from tests.ansible.plays import play

pytestmark = [pytest.mark.ansible, pytest.mark.timeout(400)]


@pytest.fixture(scope="module", autouse=True)
def server(lab):
    """Here from the first test on: it has a thread."""
    lab.materials()


def run(lab, core, mode, folder, callback, others=""):
    """The outcome, the calls that were made of ``own_trace``, and the files that callbacks wrote."""
    folder = folder / mode
    folder.mkdir()
    found = play(lab, core, "callbacks.yml", mode, hosts={"h1": {}}, masters=True, timeout=250, environ={
        "ANSIBLE_STDOUT_CALLBACK": callback, "CTXT_TRACE": str(folder / "trace"),
        "ANSIBLE_CALLBACK_PLUGINS": "%s:%s" % (PLAYBOOKS / "callbacks", HERE / "plugins/callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "collect" + others, "JUNIT_OUTPUT_DIR": str(folder / "junit"),
        "ANSIBLE_CALLBACK_TREE_DIR": str(folder / "tree")})
    trace = folder / "trace"
    calls = [masks.value(json.loads(line)) for line in trace.read_text().splitlines()] if trace.exists() else []
    return found, calls, {path.parent.name: path.read_text() for path in folder.glob("*/*")}


@pytest.mark.parametrize("core", [cores.OLDEST, cores.NEWEST], indirect=True)
def test_calls_and_their_arguments(lab, core, tmp_path):
    """Of a callback that is based on core's own: tasks, their numbers, what is in their fields, results."""
    stock, calls, _ = run(lab, core, "stock", tmp_path, "own_trace")
    assert stock.rows[-1]["task"] == "the end of callbacks", stock.stdout + stock.stderr
    assert len(calls) > 50
    for mode in "connection", "strategy":
        ours, same, _ = run(lab, core, mode, tmp_path, "own_trace")
        assert compare.differences(stock, ours) == [], mode
        found = [line for number, pair in enumerate(zip(calls, same, strict=False))
                 for line in compare.deep("%s %d %s" % (mode, number, pair[0][0]), *pair)]
        if mode == "connection":  # the inventory names ours
            found = [line for line in found if "contextree.fast" not in line]
        assert not found, "\n".join(found[:20])
        assert len(same) == len(calls)


@pytest.mark.parametrize("callback", ["minimal", "oneline"])
def test_others_print_and_write_the_same(lab, core, tmp_path, callback):
    """junit and tree write files."""
    stock, _, files = run(lab, core, "stock", tmp_path, callback, ",junit,tree")
    assert set(files) == {"junit", "tree"}, stock.stderr
    ours, _, same = run(lab, core, "strategy", tmp_path, callback, ",junit,tree")
    assert compare.differences(stock, ours) == []
    assert set(same) == set(files)
    assert masks.value(json.loads(files["tree"])) == masks.value(json.loads(same["tree"]))
    assert names(files["junit"]) == names(same["junit"])


def names(text):
    """What a file of junit has but times."""
    return masks.text(re.sub(r'(time|timestamp)="[^"]*"', "", text)).splitlines()


@pytest.mark.parametrize(("args", "typed"), [
    (("--list-tasks",), ""), (("--syntax-check",), ""), (("--start-at-task", "differs"), ""),
    (("--step",), "y\nn\ny\nc\n"), (("--check", "--diff"), "")], ids=lambda each: str(each)[:16])
def test_options_of_the_command_line(lab, core, args, typed):
    """What is listed, asked and shown is the same, and so are the results."""
    found = [play(lab, core, "callbacks.yml", mode, hosts={"h1": {}}, masters=True, args=args, typed=typed)
             for mode in ("stock", "strategy")]
    assert compare.differences(*found) == []
    assert found[1].left == []
    assert bool(found[0].rows) == (found[1].stats is not None)


@pytest.mark.parametrize("core", [cores.OLDEST, cores.NEWEST], indirect=True)
def test_more_words_and_the_same_results(lab, core):
    """At -vvvv: what is said of connections is not compared, all else is."""
    found = [play(lab, core, "smoke.yml", mode, hosts={"h1": {}}, args=("-vvvv",)) for mode in ("stock", "strategy")]
    assert found[0].status == 0
    assert all("EXEC" in outcome.stdout and "Using module file" in outcome.stdout for outcome in found)
    assert [line for line in compare.differences(*found) if not line.startswith("stdout")] == []
    assert found[1].stats["fallbacks"] == {}
