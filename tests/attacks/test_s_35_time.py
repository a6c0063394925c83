"""S-35: children that play for time. Who waits for one of them waits as long as he has said, and nobody else does."""

import os
import threading

import pytest

import contextree
from contextree.core.wire.frames import BULK, CALL, CALLS, DATA, FIN, HEADER, MORE, OPEN, STREAM, VERSION
from contextree.testing import ScriptedChild
from tests.attacks import functions
from tests.lab import processes
from tests.lab.poll import until


def opened(child, kind):
    return child.wait_for(OPEN, lambda frame: frame.payload[0] == kind)


def by_itself(context, way, answered):
    """Wait for ``context`` in some way; note how it ended."""
    limited = context.with_options(timeout=0.4)
    try:
        if way == "call":
            limited.call(functions.echo, 1)
        elif way == "submit":
            limited.submit(functions.echo, 1).result()
        else:
            list(limited.stream(functions.echo, 1))
    except contextree.ContextreeError as error:
        answered.append(error)


@pytest.mark.parametrize("way", ["call", "submit", "stream"])
@pytest.mark.parametrize("trick", ["silence", "a part and no more", "byte by byte"])
def test_s_35_an_answer_that_never_ends(tree, way, trick):
    answered = []
    with ScriptedChild(tree.router, "hostile") as child:
        waiting = threading.Thread(target=by_itself, args=(tree.router.context_by_id(child.id), way, answered))
        waiting.start()
        frame = opened(child, STREAM if way == "stream" else CALL)
        header = HEADER.pack(VERSION | DATA, MORE, BULK, 0, frame.channel, 0, child.id, 1)
        if trick == "a part and no more":
            child.write(HEADER.pack(VERSION | DATA, FIN, CALLS, 0, frame.channel, 0, child.id, 1000) + b"x" * 10)
        while trick == "byte by byte" and waiting.is_alive():
            child.write(header + b"x")
            waiting.join(0.005)
        waiting.join(10)
        assert not waiting.is_alive()
    assert [type(error) for error in answered] == [contextree.CallTimeout]


def test_s_35_processes_that_were_left_behind_end_with_their_context(tree):
    """Forked off by a function, deaf to TERM and HUP: what stays in its group is killed with it."""
    place = tree.router.fork()
    pids = place.call(functions.leave_processes, 5)
    who = [processes.identity(pid) for pid in pids]
    assert all(processes.alive(each) for each in who)
    place.kill()
    until(lambda: not any(processes.alive(each) for each in who), "the processes to be gone")
    assert os.getpid() not in pids


def test_s_35_a_context_that_sends_its_goodbye_for_ever(tree):
    """It answers GOAWAY with data, and goes on and on: it has its grace, like everybody."""
    with ScriptedChild(tree.router, "hostile") as child:
        context = tree.router.context_by_id(child.id)
        ending = threading.Thread(target=context.shutdown, kwargs={"timeout": 0.2})
        ending.start()
        number = 0
        while ending.is_alive() and child.send(DATA, b"x", channel=number & 0xffff, cls=CALLS):
            number += 1
            ending.join(0.001)
        ending.join(15)
        assert not ending.is_alive() and context.state == "died"
