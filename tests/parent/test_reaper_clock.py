"""Late ends on a clock of the test's own: MT-13, a child is watched for as long as it lives, however long that is."""

import pytest

from contextree.parent.loop import Loop
from contextree.parent.reaper import Reaper
from contextree.testing import VirtualClock
from tests.parent.tools import Gate, gated, proc_state, until

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork")


@pytest.mark.parametrize("late", [60, 2 * 3600])
def test_mt_13_a_child_that_ends_late_is_reaped_within_a_second(late):
    """Without a pidfd. Time stands still while the child ends, so that the second is one of the clock's alone."""
    clock = VirtualClock()
    loop = Loop(clock=clock, poller=clock.poller())
    reaper = Reaper(loop, open_pidfd=None, exit_status=None)
    with Gate() as gate:
        child = gated(reaper, gate, 7)
        ended, reaped = [], []

        def end_it():
            gate.open()
            until(lambda: proc_state(child.pid) == "Z", "the end of the child")
            ended.append(clock.now)

        child.on_exit(lambda state: (reaped.append((clock.now, state.exit_status)), loop.defer(loop.stop)))
        loop.defer(loop.timer, late, end_it)
        start = clock.now
        loop.start()
        until(lambda: loop.closed, "the end of the loop")
        loop.stop()
    (when, status), = reaped
    assert status == 7 and ended[0] >= start + late and 0 <= when - ended[0] <= 1
    assert proc_state(child.pid) == "" and reaper.alive == 0
    assert loop.count["errors"] == 0
