"""LXC, LXD and Incus: what is theirs alone. What they share with all methods is in test_every_way.py."""

import json
import logging
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import contextree
from contextree.connect import incus, lxc, lxd
from tests.lab.poll import until
from tests.methods import indoors

ROOT = str(Path(__file__).resolve().parents[2])
PROGRAM = """
import json, os, sys
sys.path.insert(0, {root!r})
import contextree
from tests.methods import indoors
with contextree.Router() as router:
    context = router.lxc({name!r}, lxcpath={path!r}, user="ann")
    print(json.dumps(context.call(indoors.owners, [0, 1, 2])))
"""


def test_p_45_files_of_ours_stay_as_they_are(lxc_box, tmp_path):
    """lxc-attach gives its stdio away: owner and mode. It has none of ours, though ours are files here."""
    files = [tmp_path / name for name in ("in", "out", "err")]
    for path in files:
        path.touch(0o644)
    program = PROGRAM.format(root=ROOT, name=lxc_box.container(), path=str(lxc_box.path))
    with files[0].open() as stdin, files[1].open("w") as stdout, files[2].open("w") as stderr:
        subprocess.run([sys.executable, "-c", program], stdin=stdin, stdout=stdout, stderr=stderr, check=True,
                       timeout=50, cwd=str(tmp_path))
    assert files[2].read_text() == ""
    for path in files:
        facts = path.stat()
        assert (stat.S_IMODE(facts.st_mode), facts.st_uid) == (0o644, os.getuid())
    modes = [mode for mode, _uid, _gid in json.loads(files[1].read_text())]
    assert stat.S_ISCHR(modes[0])  # the engine's /dev/null
    assert all(stat.S_ISFIFO(mode) for mode in modes[1:])


def test_p_45_stderr_comes_apart(router, lxc_box, caplog):
    caplog.set_level(logging.DEBUG, "contextree")
    with router.lxc(lxc_box.common, lxcpath=lxc_box.path, name="box") as box:
        box.call(os.write, 2, b"to stderr\n")
        record = until(lambda: [one for one in caplog.records if one.getMessage() == "to stderr"], "the line")[0]
    assert record.name == "contextree.box.stderr"


def test_the_environment_is_clean(router, lxc_box, monkeypatch):
    """Also of what keeps Python from its working directory: that is not handed on to what runs there."""
    monkeypatch.setenv("CANARY", "sings")
    name = lxc_box.common
    with router.lxc(name, lxcpath=lxc_box.path) as box:
        names = set(box.call(indoors.environ))
        assert "CANARY" not in names
        assert "PYTHONSAFEPATH" not in names
        assert {"PATH", "HOME"} <= names
    with router.lxc(name, lxcpath=lxc_box.path, clear_env=False) as box:
        assert box.call(os.getenv, "CANARY") == "sings"


@pytest.mark.parametrize("user", ["ann", 1234, "1234"])
def test_a_user_of_the_container(router, lxc_box, lxd_box, user):
    expected = (1234, 1234, [1234, 4321], "/home/ann")
    with router.lxc(lxc_box.common, lxcpath=lxc_box.path, user=user) as box:
        assert box.call(indoors.who)[:4] == expected
    with router.lxd(lxd_box.common, lxc=lxd_box.client, user=user) as box:
        assert box.call(indoors.who)[:4] == expected


def test_a_group_of_the_container(router, lxc_box):
    name = lxc_box.common
    with router.lxc(name, lxcpath=lxc_box.path, user="ann", group="extra") as box:
        assert box.call(indoors.who)[:3] == (1234, 4321, [4321])
    with router.lxc(name, lxcpath=lxc_box.path, user=77, group=88) as box:
        assert box.call(indoors.who)[:3] == (77, 88, [88])
    for options, text in (({"user": 77}, "give group= too"), ({"user": "nobody-there"}, "no user nobody-there"),
                          ({"user": "ann", "group": "none"}, "no group none")):
        with pytest.raises(contextree.AuthenticationError, match=text):
            router.lxc(name, lxcpath=lxc_box.path, **options)


def test_rm_28_the_container_is_killed(router, lxc_box, lxd_box):
    """Its first process: all in it die with it, and everybody is told at once, with a status that was seen."""
    for box, open_it in ((lxc_box, lambda name: router.lxc(name, lxcpath=lxc_box.path)),
                         (lxd_box, lambda name: router.lxd(name, lxc=lxd_box.client))):
        name = box.container()
        context = open_it(name)
        below = context.local()
        waiting = [one.submit(signal.pause) for one in (context, below)]
        os.kill(box.init(name), signal.SIGKILL)
        for future in waiting:
            error = future.exception(10)
            assert type(error) is contextree.ContextDied
        assert "status 137" in str(waiting[0].exception())  # as a shell has it: by signal 9
        until(lambda context=context: context.state == "died", "it to be gone", 2)


def test_a_python_of_36(router, lxc_box):
    with router.lxc(lxc_box.container("3.6"), lxcpath=lxc_box.path, user="ann") as box:
        assert tuple(box.facts["version"])[:2] == (3, 6)
        assert box.call(abs, -1) == 1


def test_no_python_there(router, lxc_box):
    name = lxc_box.container("")
    with pytest.raises(contextree.ConnectError, match=r"looked for python3.*say which Python by python=") as caught:
        router.lxc(name, lxcpath=lxc_box.path)
    assert caught.value.phase == "boot"


def test_it_has_stopped(router, lxc_box, lxd_box):
    name = lxc_box.container()
    lxc_box.run("lxc-stop", "-P", lxc_box.path, "-n", name, "-k")
    with pytest.raises(contextree.ConnectError, match="no such container that runs") as caught:
        router.lxc(name, lxcpath=lxc_box.path)
    assert caught.value.phase == "connect"
    with pytest.raises(contextree.ConnectError, match="does not run, says lxc-info"):
        router.setns(name, kind="lxc", lxcpath=lxc_box.path)
    name = lxd_box.container()
    lxd_box.run("lxc", "stop", "-f", name)
    with pytest.raises(contextree.ConnectError, match="the instance does not run"):
        router.lxd(name, lxc=lxd_box.client)
    with pytest.raises(contextree.ConnectError, match="does not run, says env"):
        router.setns(name, kind="lxd", program=lxd_box.client)


def test_lxd_errors(router, lxd_box, tmp_path):
    def fails(text, phase, **options):
        with pytest.raises(contextree.ConnectError, match=text) as caught:
            router.lxd(lxd_box.common, **{"lxc": lxd_box.client, **options})
        assert caught.value.phase == phase

    fails("there is no remote named elsewhere", "connect", remote="elsewhere")
    fails("no such instance", "connect", project="elsewhere")
    fails("does not take its options", "start", extra_args=["--no-such-option"])
    fails("does not answer", "connect", lxc=["env", "LXD_DIR=%s" % tmp_path, "lxc"])


def test_lxd_where_it_runs(router, lxd_box):
    with router.lxd("local:" + lxd_box.common, project="default", lxc=lxd_box.client,
                    extra_args=["--cwd", "/usr"], name="there") as box:
        assert box.call(indoors.who) == (0, 0, [], "/root", "/usr")


def test_argv():
    def words(plan):
        return " ".join(word.replace("\0", "*") for word in plan.argv)

    safe = "PYTHONSAFEPATH=contextree"
    assert words(lxc.plan("app", "/srv/lxc", extra_args=["-s", "NET"])) == (
        "lxc-attach -P /srv/lxc -n app --clear-env --set-var HOME=/root --set-var %s -s NET -- *python" % safe)
    assert words(lxc.plan("app", clear_env=False, lxc_attach=["sudo", "lxc-attach"])) == (
        "sudo lxc-attach -n app --set-var %s -- *python" % safe)
    for method, client in ((lxd, "lxc"), (incus, "incus")):
        assert words(method.plan("app")) == "%s exec --mode=non-interactive --env %s app -- *python" % (client, safe)
        plan = method.plan("app", "far", "web", extra_args=["--cwd", "/srv"])
        assert words(plan) == "%s exec --mode=non-interactive --env %s --project web --cwd /srv far:app -- *python" % (
            client, safe)
        assert plan.remote
    for bad in ("", "-x", "a\nb", None, 7):
        for method in (lxc, lxd, incus):
            with pytest.raises(contextree.UsageError):
                method.plan(bad)
    for options in ({"user": "-u"}, {"user": True}, {"user": -1}, {"group": 5}, {"lxc": []}, {"extra_args": [7]}):
        with pytest.raises(contextree.UsageError):
            lxd.plan("app", **options)
    with pytest.raises(contextree.UsageError, match="is on a remote"):
        lxd.plan("far:app", lend_python="/opt/python")


@pytest.mark.parametrize(("method", "output", "phase", "text"), [
    (lxc, "lxc-attach: x: ../src/lxc/attach.c: get_attach_context: 405 Connection refused - Failed to get init pid\n"
          "lxc-attach: x: more", "connect", "no such container that runs"),
    (lxc, "lxc-attach: x: ../src/lxc/utils.c: mkdir_p: 236 Permission denied - Failed to create directory", "connect",
     "may not enter"),
    (lxc, 'lxc-attach: x: ../src/lxc/attach.c: lxc_attach_run_command: 1841 No such file or directory - Failed to exec '
          '"/py"', "boot", "no /py in the container"),
    (lxc, "lxc-attach: unrecognized option '--x'", "start", "options"),
    (lxc, "words of a banner\nlast words", "boot", "lxc-attach ended with status 1: last words"),
    (lxd, "Error: Instance not found", "connect", "no such instance"),
    (lxd, 'Error: Failed to fetch instance "x" in project "y": Instance not found', "connect", "no such instance"),
    (lxd, "Error: not authorized", "connect", "refuses this user"),
    (lxd, 'Error: Get "http://unix.socket/1.0": dial unix /x: connect: permission denied', "connect", "refuses"),
    (lxd, 'Error: Get "http://unix.socket/1.0": dial unix /x: connect: no such file or directory', "connect", "answer"),
    (lxd, "Error: Command not found", "boot", "there is no {python} in the instance"),
    (lxd, "Error: Project not found", "connect", "no such project"),
    (lxd, "contextree: no Python 3.6 or newer: looked for python3 in PATH=/bin", "boot", "looked for python3"),
])
def test_classify(method, output, phase, text):
    error, message, found = method.classify("m", 1, output)
    assert (error, found) == ("ConnectError", phase)
    assert re.search(re.escape(text), message), message
