"""The life of a template: many modules at once, cancelled ones, a template that dies, and what is left of it all."""

import contextlib
import os
import signal
import sys
import tempfile
import time
from concurrent import futures

import pytest

import contextree
from ansible_plugin.target import warm
from tests.ansible import payloads, warm_side
from tests.ansible.conftest import close
from tests.ansible.payloads import of
from tests.lab import processes
from tests.lab.poll import until


@pytest.fixture(scope="module")
def context():
    """A context with this Python."""
    with contextree.Router() as router, router.local() as grown:
        context = grown.with_options(threads=8)
        call = of("sys.exit(0)")
        context.call(warm_side.together, [call] * 4)
        for cancel in "tell", "raise":
            waiting(context.with_options(cancel=cancel).submit(warm_side.run, *call))
        close(context)
        yield context


def waiting(future):
    """A call that is over, whatever it came to."""
    with contextlib.suppress(futures.CancelledError):
        future.exception(20)


def told(path):
    """What a module has written to a file, once it has."""
    until(lambda: path.exists() and path.read_text().endswith("\n"), "the module to write %s" % path)
    return path.read_text()


def test_only_the_first_needs_the_archive(side):
    digest, data, task = of("print(1); sys.exit(0)")
    assert not side.call(warm_side.has, digest)
    assert side.call(warm_side.run, digest, None, task) == warm.MISSING
    assert side.call(warm_side.run, digest, data, task) == (0, b"1\n", b"")
    assert side.call(warm_side.has, digest)
    assert side.call(warm_side.run, digest, None, task) == (0, b"1\n", b"")


def test_many_at_once(side):
    """They run beside each other: each waits until all have begun."""
    source = """
import json
folder = json.loads(__import__("ansible.module_utils.basic").module_utils.basic._ANSIBLE_ARGS.decode())["folder"]
open(os.path.join(folder, str(os.getpid())), "w").close()
while len(os.listdir(folder)) < 12:
    time.sleep(0.005)
print("x" * 300000)
sys.exit(3)
"""
    with tempfile.TemporaryDirectory() as folder:
        call = of(source, params='{"folder": "%s"}' % folder)
        results = side.call(warm_side.together, [call] * 12)
    assert results == [(3, b"x" * 300000 + b"\n", b"")] * 12
    assert len(side.call(warm_side.pids)) == 1


def test_fifty_megabytes(side):
    call = of("sys.stdout.write('x' * 50000000); sys.stdout.flush(); sys.stderr.write('e'); sys.exit(0)")
    assert side.call(warm_side.lengths, call) == (0, 50000000, 1)


@pytest.mark.parametrize("how", ["cancel", "raise", "deadline"])
def test_a_cancelled_run_is_killed(side, tmp_path, how):
    """With all of its process group; the next module runs as ever."""
    path = tmp_path / "pids"
    call = of("child = os.fork()\nif child:\n    with open(%r, 'w') as file:\n        file.write('%%d %%d\\n' "
              "%% (os.getpid(), child))\n"
              "print('out', flush=True)\ntime.sleep(1000)\n" % str(path))
    options = {"raise": {"cancel": "raise"}, "deadline": {"timeout": 2}}.get(how, {})
    future = side.with_options(**options).submit(warm_side.run, *call)
    pids = [processes.identity(int(pid)) for pid in told(path).split()]
    assert all(pids)
    if how != "deadline":
        future.cancel()
    until(lambda: not any(processes.alive(pid) for pid in pids), "the module to be killed")
    waiting(future)
    assert side.call(warm_side.run, *of("print(1); sys.exit(0)")) == (0, b"1\n", b"")


def test_a_cancelled_run_does_not_wait_for_what_was_left_running(side, tmp_path):
    """A process in the background holds the module's output: nobody waits for that after a cancel."""
    path = tmp_path / "pids"
    call = of("child = os.fork()\nif child:\n    with open(%r, 'w') as file:\n        file.write('%%d %%d\\n' "
              "%% (os.getpid(), "
              "child))\n    os._exit(0)\nos.setsid()\ntime.sleep(1000)\n" % str(path))
    future = side.submit(warm_side.run, *call)
    module, child = (int(pid) for pid in told(path).split())
    until(lambda: not processes.stat(module), "the module to end")
    future.cancel()
    until(lambda: side.call(warm_side.busy) == 0, "the run to be given up")
    os.kill(child, signal.SIGKILL)
    until(lambda: not processes.stat(child), "the child to end")


def test_a_template_that_is_killed_while_nothing_runs(side):
    """The next module gets another one, to which its archive is sent again."""
    digest, data, task = of("print(1); sys.exit(0)")
    side.call(warm_side.run, digest, data, task)
    before = side.call(warm_side.pids)
    os.kill(before[0], signal.SIGKILL)
    assert side.call(warm_side.run, digest, None, task) == warm.MISSING
    assert side.call(warm_side.run, digest, data, task) == (0, b"1\n", b"")
    assert side.call(warm_side.pids) != before


def test_a_template_that_is_killed_while_a_module_runs(side, tmp_path):
    """The module runs to its end; how that was nobody knows, so it counts as killed. Nothing is run twice."""
    path, go = tmp_path / "pid", tmp_path / "go"
    call = of("with open(%r, 'a') as file:\n    file.write('%%d\\n' %% os.getpid())\nprint('early', flush=True)\n"
              "while not os.path.exists(%r):\n    time.sleep(0.005)\nprint('late')\nsys.exit(0)\n"
              % (str(path), str(go)))
    future = side.submit(warm_side.run, *call)
    told(path)
    os.kill(side.call(warm_side.pids)[0], signal.SIGKILL)
    go.write_text("")
    assert future.result(20) == (137, b"early\nlate\n", b"Killed\n")
    assert len(path.read_text().splitlines()) == 1


def test_a_template_that_cannot_start(side):
    """An error, not a wait without end."""
    with pytest.raises(OSError, match="the template process of"):
        side.call(warm_side.run, *of("sys.exit(0)")[:2], dict(of("sys.exit(0)")[2], env={"PYTHONHOME": "/nowhere"}))


def test_an_installed_package_is_seen(side, tmp_path):
    """What a module installs, the next one finds: what was looked for in vain is looked for again."""
    folder = tmp_path / "site"
    folder.mkdir()
    files = {"ansible/module_utils/basic.py": payloads.BASIC + "try:\n    import ctxt_new as new\nexcept "
        "ImportError:\n    new = None\n"}
    call = of("import ansible.module_utils.basic as basic; print(basic.new); sys.exit(0)", files=files)
    call = call[0], call[1], dict(call[2], env={"PYTHONPATH": str(folder)})
    assert side.call(warm_side.run, *call)[1] == b"None\n"
    (folder / "ctxt_new.py").write_text("")
    assert b"ctxt_new.py" in side.call(warm_side.run, *call)[1]


def test_a_daemon_is_left_alone(side, tmp_path):
    """What a module leaves in the background on purpose lives on, also when the template ends."""
    path = tmp_path / "pid"
    call = of("if os.fork() == 0:\n    os.setsid()\n    for fd in range(3):\n        os.close(fd)\n    if "
              "os.fork() == 0:\n"
              "        with open(%r, 'w') as file:\n            file.write('%%d\\n' %% os.getpid())\n"
              "        time.sleep(1000)\n    os._exit(0)\nsys.exit(0)\n" % str(path))
    assert side.call(warm_side.run, *call) == (0, b"", b"")
    daemon = processes.identity(int(told(path)))
    close(side)
    assert processes.alive(daemon)
    os.kill(daemon[0], signal.SIGKILL)
    until(lambda: not processes.alive(daemon), "the daemon to end")


def test_a_module_outlives_the_agent(tmp_path):
    """When the link is lost a module runs to its end, as without a terminal in stock; the template ends after it."""
    path, go = tmp_path / "pids", tmp_path / "go"
    call = of("with open(%r, 'w') as file:\n    file.write('%%d %%d\\n' %% (os.getpid(), os.getppid()))\n"
              "while not os.path.exists(%r):\n    time.sleep(0.005)\nopen(%r, 'w').close()\nsys.exit(0)\n"
              % (str(path), str(go), str(tmp_path / "done")))
    with contextree.Router() as router:
        context = router.local().with_options(threads=2)
        future = context.submit(warm_side.run, *call)
        pids = [processes.identity(int(pid)) for pid in told(path).split()]
        os.kill(context.call(os.getpid), signal.SIGKILL)
        waiting(future)
        assert all(processes.alive(pid) for pid in pids)
        go.write_text("")
        until(lambda: not any(processes.alive(pid) for pid in pids), "module and template to end")
        assert (tmp_path / "done").exists()


def test_nothing_is_left(side):
    """After many runs of many archives: no descriptor and no process; and the template's memory is what it was."""
    calls = [of("value = %d; sys.exit(0)" % number) for number in range(5)]
    for call in calls:
        side.call(warm_side.many, 10, call)
    until(lambda: side.call(warm_side.spare), "a spare")
    before = side.call(warm_side.descriptors), side.call(warm_side.memory)
    for call in calls:
        assert side.call(warm_side.many, 30, call) == {(0, b"", b"")}
    until(lambda: side.call(warm_side.descriptors) == before[0], "descriptors to be what they were")
    assert side.call(warm_side.memory) < before[1] + 1024


def test_old_archives_are_dropped(side):
    """A template keeps so many bytes of archives; what is dropped is asked for again."""
    side.call(warm_side.limit, 60000)
    try:
        calls = [of("value = %d; sys.exit(0)" % number, files={"ansible/x.bin": os.urandom(20000)})
                 for number in range(8)]
        for call in calls:
            assert side.call(warm_side.run, *call) == (0, b"", b"")
        descriptors = side.call(warm_side.descriptors)
        assert side.call(warm_side.known) == [2]
        assert side.call(warm_side.run, calls[0][0], None, calls[0][2]) == warm.MISSING
        assert side.call(warm_side.run, *calls[0]) == (0, b"", b"")
        assert side.call(warm_side.descriptors) == descriptors
    finally:
        side.call(warm_side.limit, warm.KEPT)


def test_few_templates(side):
    """One for each environment that a Python must be started with, but not for each that ever was."""
    digest, data, task = of("sys.exit(0)")
    for number in range(warm.TEMPLATES + 2):
        assert side.call(warm_side.run, digest, data, dict(task, env={"LC_CTXT": str(number)})) == (0, b"", b"")
    assert len(side.call(warm_side.pids)) == warm.TEMPLATES


@pytest.mark.skipif(sys.version_info < (3, 8), reason="there is no memfd")
def test_an_archive_has_no_file(side):
    """It lies in memory: a target that dies has nothing of it on its disk."""
    status, out, _ = side.call(warm_side.run, *of("print(_modlib_path, os.path.exists(_modlib_path)); sys.exit(0)"))
    assert status == 0
    assert out.startswith(b"/proc/")
    assert out.endswith(b" True\n")


def test_a_closed_template(side):
    assert side.call(warm_side.run_closed, *of("sys.exit(0)")) == "this template is closed"


def test_time(side):
    """A module does not wait for anything but its own process."""
    call = of("sys.exit(0)")
    side.call(warm_side.run, *call)
    begin = time.monotonic()
    assert side.call(warm_side.many, 20, call) == {(0, b"", b"")}
    assert time.monotonic() - begin < 20
