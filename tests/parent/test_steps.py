"""What a plan has done on the machine before its child starts and when it is gone (Plan.before, Plan.after)."""

import os
import signal
import subprocess
import sys
import time

import pytest

import contextree
from contextree.connect.plan import HERE, PYTHON, TOKEN, Plan
from tests.lab import processes
from tests.lab.poll import until


def classify(method, status, output):
    """The error of these plans: what was seen, for the test to look at."""
    return "ConnectError", "status %s: %s" % (status, output), "connect"


def steps(before=(), after=(), argv=(PYTHON,), **options):
    """A plan of a local child."""
    return Plan(argv, "stepped", "steps", before=before, after=after, classify=classify, **options)


@pytest.fixture
def router():
    with contextree.Router() as root:
        yield root


def written(path):
    return path.read_text().split() if path.exists() else []


def log(path, word):
    """A command that writes a word to a file."""
    return ["sh", "-c", 'echo "$1" >>"$2"', "sh", word, str(path)]


def test_before_and_after_in_order(router, tmp_path):
    path = tmp_path / "it's a \"log\" $PATH"
    plan = steps([log(path, "one"), log(path, TOKEN)], [log(path, "three"), log(path, TOKEN)])
    with router.grow(plan) as context:
        assert context.call(abs, -1) == 1
        one, token = written(path)
        assert one == "one"
        assert len(token) >= 16
    assert written(path) == ["one", token, "three", token]  # shutdown has waited for it


def test_each_child_has_a_token_of_its_own_and_here_is_this_python(router, tmp_path):
    path = tmp_path / "log"
    show = [HERE, "-c", "import sys; open(sys.argv[1], 'a').write('%s %s\\n' % (sys.executable, sys.argv[2]))",
            str(path), TOKEN]
    plan = steps([show], python=["env", "TOKEN_IN_PYTHON=" + TOKEN, sys.executable])
    with router.grow(plan) as first, router.grow(plan, on_start=()) as second:
        tokens = [context.call(os.getenv, "TOKEN_IN_PYTHON") for context in (first, second)]
    assert written(path) == [sys.executable, tokens[0], sys.executable, tokens[1]]
    assert tokens[0] != tokens[1]


def test_what_they_write_does_not_disturb_and_they_read_nothing(router):
    noise = ["sh", "-c", "cat; echo to stdout; echo to stderr >&2"]
    with router.grow(steps([noise], [noise])) as context:
        assert context.call(abs, -1) == 1


def test_one_that_fails_ends_it_and_after_is_done_all_the_same(router, tmp_path):
    path = tmp_path / "log"
    plan = steps([log(path, "one"), ["sh", "-c", "echo it cannot be >&2; exit 7"], log(path, "never")],
                 [log(path, "after")])
    with pytest.raises(contextree.ConnectError, match="status 7: it cannot be") as caught:
        router.grow(plan)
    assert caught.value.status == 7
    until(lambda: written(path) == ["one", "after"], "what comes after it")


@pytest.mark.parametrize("which", ["before", "command"])
def test_a_program_that_is_not_there(router, tmp_path, which):
    path = tmp_path / "log"
    before = [log(path, "one")] + [["no-such-program"]] * (which == "before")
    plan = steps(before, [log(path, "after")], (PYTHON,) if which == "before" else ("no-such-program", PYTHON))
    with pytest.raises(contextree.ConnectError, match="cannot start no-such-program: No such file") as caught:
        router.grow(plan)
    assert caught.value.phase == "start"
    assert written(path) == []  # nothing has been done that would have to be undone


def test_the_limit_of_connect_counts_for_them(router, tmp_path):
    path = tmp_path / "log"
    plan = steps([["sh", "-c", "echo $$ >%s; sleep 600; :" % path]], [log(path, "after")], phases={"connect": 1})
    with pytest.raises(contextree.ConnectTimeout) as caught:
        router.grow(plan)
    assert caught.value.phase == "connect"
    until(lambda: written(path)[1:] == ["after"], "what comes after it")
    who = processes.identity(int(written(path)[0]))
    until(lambda: not processes.alive(who), "the command to be gone")


def test_cancelled_while_they_run(router, tmp_path):
    path = tmp_path / "log"
    plan = steps([["sh", "-c", "echo $$ >%s; sleep 600; :" % path]], [log(path, "after")])
    context = router.grow(plan, wait=False)
    until(lambda: written(path), "the command to run")
    who = processes.identity(int(written(path)[0]))
    context.shutdown()
    assert not processes.alive(who)
    assert written(path)[1:] == ["after"]


def test_from_another_context(router, tmp_path):
    path = tmp_path / "log"
    with router.local(name="between") as between:
        with router.grow(steps([log(path, "one")], [log(path, "two")]), via=between) as context:
            assert context.call(abs, -1) == 1
        assert written(path) == ["one", "two"]
        with pytest.raises(contextree.ConnectError, match="status 3"):
            between.grow(steps([["sh", "-c", "exit 3"]], [log(path, "three")]))
        until(lambda: written(path) == ["one", "two", "three"], "what comes after it")


def test_the_child_is_killed(router, tmp_path):
    path = tmp_path / "log"
    context = router.grow(steps((), [log(path, "after")]))
    os.kill(context.pid, signal.SIGKILL)
    context.wait(10)
    until(lambda: written(path) == ["after"], "what comes after it")


def test_the_end_of_the_router_waits_for_it(tmp_path):
    path = tmp_path / "log"
    slow = ["sh", "-c", 'sleep 0.5; echo "$1" >>"$2"', "sh", "slow", str(path)]
    with contextree.Router() as router:
        router.grow(steps((), [slow]))
        router.grow(steps((), [log(path, "quick")]))
    assert sorted(written(path)) == ["quick", "slow"]


def test_p_54_a_leaked_descriptor_keeps_nothing_open(router, tmp_path):
    path = tmp_path / "log"
    leak = ["sh", "-c", "sleep 600 & echo $! >%s; exit 5" % path]  # it has our pipes, and the one of ``after``
    for plan in (steps([leak], [log(path, "after")]), steps((), [log(path, "after")], leak + [PYTHON])):
        with router.local() as between:
            with pytest.raises(contextree.ConnectError, match="status 5"):
                router.grow(plan, via=between)
            until(lambda: written(path)[1:] == ["after"], "what comes after it")
        processes.end([processes.identity(int(written(path)[0]))])


def test_one_that_fails_is_logged(router, caplog):
    with router.grow(steps((), [["sh", "-c", "echo no room >&2; exit 9"]])):
        pass
    router.close()
    line, = [record.getMessage() for record in caplog.records if "no room" in record.getMessage()]
    assert "stepped: what was to be done after it" in line
    assert "status 9" in line


def test_one_that_hangs_is_given_up(router, monkeypatch, tmp_path):
    monkeypatch.setattr("contextree.parent.steps.LIMIT", 0.5)
    path = tmp_path / "log"
    with router.grow(steps((), [["sh", "-c", "echo $$ >%s; sleep 600; :" % path]])):
        pass
    who = processes.identity(int(written(path)[0]))
    until(lambda: not processes.alive(who), "it to be gone")


MASTER = """
import contextree, sys
sys.path.insert(0, sys.argv[2])
from tests.parent.test_steps import log, steps
router = contextree.Router()
context = router.grow(steps((), [log(sys.argv[1], "after")]))
print(context.pid, flush=True)
input()
"""


def test_the_master_is_killed(tmp_path):
    path = tmp_path / "log"
    root = os.path.dirname(os.path.dirname(contextree.__file__))
    with subprocess.Popen([sys.executable, "-c", MASTER, str(path), root], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, env=dict(os.environ, PYTHONPATH=root)) as master:
        who = processes.identity(int(master.stdout.readline()))
        assert written(path) == []
        master.kill()
    until(lambda: written(path) == ["after"], "what comes after it")
    until(lambda: not processes.alive(who), "the child to be gone")


def work(path):
    """Longer than any test."""
    open(path, "w").close()
    time.sleep(600)  # sleeps: it is a call that does not end


def test_a_detached_child_keeps_what_it_was_lent(tmp_path):
    path = tmp_path / "log"
    with contextree.Router() as router:
        context = router.grow(steps((), [log(path, "after")]))
        who = processes.identity(context.pid)
        context.detach()
        context.submit(work, str(tmp_path / "began"))
        until((tmp_path / "began").exists, "the work to begin")
        shell, = [other for other in processes.descendants(os.getpid())
                  if "contextree-after" in processes.command_line(other[0])]
    assert processes.alive(who)
    assert written(path) == []
    processes.end([who])
    until(lambda: written(path) == ["after"], "what comes after it")
    for pid in who[0], shell[0]:  # they had been let go: nobody else reaps them
        os.waitpid(pid, 0)
