"""However a program ends, its tree ends within seconds, and says nothing about it."""

import os
import signal

import pytest

from tests.lab.poll import until

TREE = """
import os, select, signal, sys, threading, contextree
def main():
    router = contextree.Router()
    first, second = router.local(), router.fork()
    contexts = [first, second, first.fork()]
    BUSY
    print("up", len(contexts), flush=True)
    ENDING
if __name__ == "__main__":
    main()
"""
BUSY = {"idle": "pass", "busy": "waiting = [each.submit(select.select, [], [], []) for each in contexts]"}
ENDINGS = {  # how it ends: (line of code, exit status, the last line on stderr)
    "returns": ("return", 0, ""),
    "raises": ("raise ValueError('the reason')", 1, "ValueError: the reason"),
    "sys.exit": ("sys.exit(3)", 3, ""),
    "os._exit": ("os._exit(4)", 4, ""),
    "KILL": ("os.kill(os.getpid(), signal.SIGKILL)", -9, ""),
    "TERM": ("os.kill(os.getpid(), signal.SIGTERM)", -15, ""),
    "thread": ("threading.Thread(target=router.close).start()", 0, ""),
}


@pytest.mark.parametrize("how, busy", [*((how, "idle") for how in ENDINGS), ("returns", "busy"), ("KILL", "busy")])
def test_ct_25_mt_20_a_program_that_forgets_to_close(program, how, busy):
    code, status, last = ENDINGS[how]
    run = program(TREE.replace("ENDING", code).replace("BUSY", BUSY[busy]))
    assert run.line() == "up 3"
    returned, _, err = run.ended(5.0)
    assert returned == status, err
    assert err.rstrip().rpartition("\n")[2] == last
    assert "Exception ignored" not in err and "in thread" not in err and "Warning" not in err
    if how != "raises":
        assert err == ""


def test_p_75_ctrl_c_on_the_terminal_ends_the_program_quietly_but_for_its_own_traceback(program):
    run = program(TREE.replace("ENDING", "first.call(select.select, [], [], [])").replace("BUSY", "pass"))
    assert run.line() == "up 3"
    os.kill(run.process.pid, signal.SIGINT)
    returned, _, err = run.ended(5.0)
    assert returned == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert err.count("Traceback (most recent call last)") == 1


SLOW_LEAVER = """
import contextree, threading
def main():
    with contextree.Router(grace=0.5) as router:
        context = router.fork()
        context.submit(stubborn)
        context.ping()
        print("up", flush=True)
def stubborn():
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        try:
            threading.Event().wait()
        except BaseException:
            continue
if __name__ == "__main__":
    main()
"""


def test_s_35_a_child_that_ignores_everything_is_killed(program):
    run = program(SLOW_LEAVER)
    assert run.line() == "up"
    assert run.ended(5.0)[0] == 0


KILL_INNER = """
import contextree, sys
def main():
    with contextree.Router() as router:
        chain = [router]
        for kind in sys.argv[1].split("-"):
            chain.append(getattr(chain[-1], kind)())
        print(*(context.pid for context in chain[1:]), flush=True)
        level = int(sys.stdin.readline())
        print(chain[level + 1].wait(5), flush=True)
        print("still", len(router.contexts), flush=True)
if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("kinds", ["local-fork-local", "fork-local-fork"])
def test_r_kill_any_node_and_what_is_below_it_ends(program, kinds, level):
    run = program(KILL_INNER, kinds)
    pids = [int(word) for word in run.line().split()]
    os.kill(pids[level], signal.SIGKILL)
    until(lambda: not set(pids[level:]) & set(run.census()), "the nodes below it to end", 5.0)
    assert set(pids[:level]) <= set(run.census())
    run.process.stdin.write("%d\n" % level)
    run.process.stdin.flush()
    assert "ended: its process" in run.line()
    assert run.line() == "still %d" % level
    assert run.ended()[0] == 0
