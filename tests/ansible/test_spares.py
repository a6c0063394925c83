"""A spare is forked ahead for the next module: a module in it finds what it does in a fresh fork, and it costs nobody
anything: it is not needed, holds nothing open, and ends with its template."""

import concurrent.futures
import json
import os
import signal

import pytest

import contextree
from ansible_plugin.controller import payload
from ansible_plugin.target import template
from tests.ansible import payloads, warm_side
from tests.ansible.payloads import HEAD, of
from tests.lab import processes
from tests.lab.poll import until

WELL = 0, b"1\n", b""

# All that a process has, but its number and what comes by chance.
LOOK = HEAD + """
import atexit, fcntl, gc, locale, resource, signal, socket, tempfile, threading, time, warnings
found = {}
for name in os.listdir("/proc/self/fd"):
    try:
        found["fd " + name] = [os.readlink("/proc/self/fd/" + name).split("[")[0],
                               fcntl.fcntl(int(name), fcntl.F_GETFD), fcntl.fcntl(int(name), fcntl.F_GETFL)]
    except OSError:
        pass
with open("/proc/self/status") as file:
    found["status"] = [line for line in file if line.startswith((
        "SigP", "SigB", "SigI", "SigC", "Shd", "Umask", "Threads", "Cap", "Sec", "NoNew", "Uid", "Gid", "Groups"))]
found["tree"] = [os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid(), os.getppid()]
found["limits"] = [resource.getrlimit(each) for each in range(16)]
found["kernel"] = [os.getcwd(), os.umask(0), os.nice(0), sorted(os.sched_getaffinity(0)), os.sched_getscheduler(0)]
found["environ"] = sorted(os.environ.items())
found["signals"] = [repr(signal.getsignal(each)) for each in range(1, signal.NSIG)] + [signal.set_wakeup_fd(-1)]
found["modules"] = sorted(sys.modules)
found["python"] = [sys.path[1:], [type(each).__name__ for each in sys.meta_path], sys.argv, sys.flags, repr(sys.stdin),
                   repr(sys.stdout), repr(sys.stderr), sys.gettrace(), sys.getrecursionlimit()]
found["gc"] = [gc.isenabled(), gc.get_threshold(), gc.callbacks]
found["others"] = [threading.active_count(), time.tzname, tempfile.tempdir, socket.getdefaulttimeout(), str(
    warnings.filters), locale.setlocale(locale.LC_ALL), sorted(globals()), sorted(vars(sys.modules["__main__"]))]
frame, depth = sys._getframe(), 0
while frame:
    frame, depth = frame.f_back, depth + 1
found["depth"] = depth
print(os.getpid(), json.dumps(found, sort_keys=True))
sys.exit(0)
"""
CHANGE = HEAD + """
import random, signal, time
os.chdir("/"); os.umask(0o777); os.environ["CTXT_LEFT"] = "1"; sys.path.insert(0, "/nowhere"); os.nice(3)
os.environ["TZ"] = "Asia/Tokyo"; time.tzset()
signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
del sys.modules["json"]
for fd in range(3, 20):
    os.dup2(1, fd)
print(1)
sys.exit(0)
"""


def run(side, source, **options):
    """What a module gives."""
    return side.call(warm_side.run, *of(source, **options))


def spare(side):
    """The process that waits for a module, once there is one."""
    return until(lambda: side.call(warm_side.spare), "a spare")


def test_a_module_finds_in_a_spare_what_it_finds_in_a_fresh_fork(side):
    fresh = run(side, LOOK)
    assert fresh[0] == 0, fresh
    for source in CHANGE, LOOK, CHANGE, LOOK:
        run(side, source)  # those that are new have forks of their own
    results = []
    for _ in range(3):
        waiting = spare(side)
        assert run(side, CHANGE) == WELL
        assert spare(side) != waiting
        waiting = spare(side)
        results.append(run(side, LOOK))
        assert int(results[-1][1].split()[0]) == waiting
    for status, out, err in results:
        assert (status, err) == (0, b"")
        found, expected = (json.loads(text.split(b" ", 1)[1]) for text in (out, fresh[1]))
        assert not {name: (found[name], expected[name]) for name in expected if found[name] != expected[name]}


def test_each_task_is_its_own(side, tmp_path):
    """Environment, directory and mask are told to a spare, and nothing of what chance gives was there before."""
    source = ("import random, tempfile, time, uuid\nprint(os.environ.get('CTXT'), os.getcwd(), oct(os.umask(0)), "
              "time.tzname[0])\nprint(random.random(), tempfile.mktemp(), uuid.uuid4(), os.urandom(8))\nsys.exit(0)")
    digest, data, task = of(source)
    side.call(warm_side.run, digest, data, task)
    lines = []
    for number in range(2):
        spare(side)
        folder = tmp_path / str(number)
        folder.mkdir()
        env = {"CTXT": str(number), "TZ": "ABC%d" % number}
        given = side.call(warm_side.run, digest, None, dict(task, env=env, cwd=str(folder), umask=0o70 + number))
        first, second = given[1].decode().splitlines()
        assert first == "%d %s 0o%o ABC" % (number, folder, 0o70 + number)
        lines.append(second)
    assert len(set(lines)) == 2


def test_a_spare_holds_nothing(side):
    """But what its modules have, and the socket at which it waits."""
    assert run(side, "print(1); sys.exit(0)") == WELL
    folder = "/proc/%d/fd/" % spare(side)
    assert sorted(os.readlink(folder + name).split(":")[0] for name in os.listdir(folder)) == ["pipe"] * 3 + ["socket"]


def test_two_at_once(side, tmp_path):
    """One of them in the spare, the other in a fork of its own."""
    source = ("import time\nopen(os.path.join(%r, str(os.getpid())), 'w').close()\nwhile len(os.listdir(%r)) < 3:\n"
              "    time.sleep(0.005)\nprint(os.getpid())\nsys.exit(0)" % (str(tmp_path), str(tmp_path)))
    for name in "ab":
        (tmp_path / name).write_text("")
    side.call(warm_side.run, *of(source))
    for each in tmp_path.iterdir():
        each.unlink()
    (tmp_path / "a").write_text("")
    waiting = spare(side)
    results = side.call(warm_side.together, [of(source)] * 2)
    assert [(status, err) for status, _, err in results] == [(0, b"")] * 2
    pids = {int(out) for _, out, _ in results}
    assert len(pids) == 2
    assert waiting in pids
    assert spare(side) not in pids


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_a_spare_that_is_killed_or_stopped(side, number):
    """Nobody sees that; and there is another one after the next module."""
    call = of("print(1); sys.exit(0)")
    assert side.call(warm_side.run, *call) == WELL
    waiting = processes.identity(spare(side))
    os.kill(waiting[0], number)
    until(lambda: (processes.stat(waiting[0]) or "-T")[1] == "T", "it to be ended or stopped")
    assert side.call(warm_side.run, *call) == WELL
    until(lambda: not processes.stat(waiting[0]), "it to be gone")
    assert processes.identity(spare(side)) != waiting
    assert side.call(warm_side.run, *call) == WELL


def test_a_new_archive_has_a_fork_of_its_own(side):
    """The spare stays for the others, and is renewed when that archive is wanted again."""
    first, second = of("print(1); sys.exit(0)"), of("print(os.getpid()); sys.exit(0)")
    assert side.call(warm_side.run, *first) == WELL
    waiting = spare(side)
    assert int(side.call(warm_side.run, *second)[1]) != waiting
    assert spare(side) == waiting
    assert int(side.call(warm_side.run, *second)[1]) != waiting
    until(lambda: side.call(warm_side.spare) not in (None, waiting), "another spare")
    waiting = spare(side)
    assert int(side.call(warm_side.run, *second)[1]) == waiting
    spare(side)
    assert side.call(warm_side.run, *first) == WELL


def test_a_task_of_many_bytes(side):
    """It is done, by whomsoever."""
    source = "print(len(AnsibleModule().params['text'])); sys.exit(0)"
    for size in 0, template.SHORT // 2, template.SHORT - 1000, template.SHORT, 3000000:
        params = '{"ANSIBLE_MODULE_ARGS": {"text": "%s"}}' % ("x" * size)
        for _ in range(2):
            assert run(side, source, params=params) == (0, b"%d\n" % size, b"")
        spare(side)


def test_a_module_in_a_spare_is_cancelled(side, tmp_path):
    """With its process group."""
    path, call = tmp_path / "pids", of("sys.exit(0)")
    source = ("import time\nif not os.path.exists(%r):\n    sys.exit(0)\nchild = os.fork()\nif child:\n"
              "    with open(%r, 'w') as file:\n        file.write('%%d %%d\\n' %% (os.getpid(), child))\n"
              "time.sleep(1000)" % (str(path), str(path)))
    call = of(source)
    side.call(warm_side.run, *call)
    waiting = spare(side)
    path.write_text("")
    future = side.submit(warm_side.run, *call)
    pids = [processes.identity(int(pid)) for pid in
            until(lambda: path.read_text().endswith("\n") and path.read_text(), "the module").split()]
    assert pids[0][0] == waiting
    future.cancel()
    until(lambda: not any(processes.alive(pid) for pid in pids), "the module to be killed")
    with pytest.raises((concurrent.futures.CancelledError, contextree.ContextreeError)):
        future.result(20)
    until(lambda: side.call(warm_side.busy) == 0, "the run to be given up")


@pytest.mark.parametrize("who", ["agent", "template"])
def test_a_spare_ends_with_its_template(who):
    """However that ends."""
    with contextree.Router() as router:
        context = router.local()
        assert run(context, "print(1); sys.exit(0)") == WELL
        pids = [processes.identity(pid) for pid in [*context.call(warm_side.pids), spare(context)]]
        os.kill(context.call(os.getpid) if who == "agent" else pids[0][0], signal.SIGKILL)
        until(lambda: not any(processes.alive(pid) for pid in pids), "template and spare to end")


def test_the_end_of_a_link_is_not_kept_from_anybody(tmp_path):
    """While a module runs on after the link was lost there is no spare any more."""
    path, go = tmp_path / "pid", tmp_path / "go"
    go.write_text("")
    call = of("import time\nwith open(%r, 'w') as file:\n    file.write('%%d\\n' %% os.getpid())\n"
              "while not os.path.exists(%r):\n    time.sleep(0.005)\nsys.exit(0)" % (str(path), str(go)))
    with contextree.Router() as router:
        context = router.local().with_options(threads=2)
        context.call(warm_side.run, *call)
        module, waiting = of("print(1); sys.exit(0)"), spare(context)
        go.unlink()
        path.unlink()
        future = context.submit(warm_side.run, *call)
        until(lambda: path.exists() and path.read_text().endswith("\n"), "the module to begin")
        assert int(path.read_text()) == waiting
        assert context.call(warm_side.run, *module) == WELL
        owner = context.call(warm_side.pids)[0]
        os.kill(context.call(os.getpid), signal.SIGKILL)
        with pytest.raises(contextree.ContextreeError):
            future.result(20)
        until(lambda: [pid for pid, _ in processes.descendants(owner)] == [waiting], "the module alone to be left")
        identity = processes.identity(owner)
        go.write_text("")
        until(lambda: not processes.alive(identity), "the template to end")


# What a module's process says itself of its end must be what the kernel would say.
ENDS = [
    "sys.exit(7)", "os.close(1); sys.exit(0)", "os.close(0); os.close(1); os.close(2); sys.exit(5)",
    "os.getppid = None; sys.exit(3)",
    "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)); sys.exit(4)",
    "for fd in range(3, 50):\n    os.dup2(1, fd)\nprint('x'); sys.exit(0)",
    "import threading, time\nthreading.Thread(target=time.sleep, args=(100,), daemon=True).start()\nsys.exit(6)",
    "if os.fork() == 0:\n    sys.exit(8)\nprint(os.WEXITSTATUS(os.wait()[1])); sys.exit(2)",
    "if os.fork() == 0:\n    import time\n    time.sleep(0.2)\n    print('late')\n    sys.exit(8)\nsys.exit(2)",
    "import atexit, signal; atexit.register(os.kill, os.getpid(), signal.SIGKILL); sys.exit(2)",
    "raise KeyboardInterrupt",
]


def test_the_end_of_a_process_is_as_in_stock(side):
    """In a fresh fork as in a spare."""
    for source in ENDS:
        text = payloads.payload(HEAD + source)
        found = payload.take_apart(text)
        stock = side.call(warm_side.stock, text, {}, None)
        for _ in range(2):
            ours = side.call(warm_side.run, found.digest, found.zip_data(), found.task)
            assert ours[:2] == stock[:2], source
            assert bool(ours[2]) == bool(stock[2]), source


def test_the_next_module_does_not_see_the_last_one(side):
    """Its process has ended when another one begins, though it is told before."""
    call = of("held = bytearray(30000000)\npids = [each for each in os.listdir('/proc') if each.isdigit()]\n"
              "def parent(pid):\n    try:\n        with open('/proc/%s/stat' % pid) as file:\n"
              "            return int(file.read().rsplit(')', 1)[1].split()[1])\n    except OSError:\n"
              "        return None\nprint(len([each for each in pids if parent(each) == os.getppid()])); sys.exit(0)")
    assert side.call(warm_side.many, 20, call) == {WELL}
