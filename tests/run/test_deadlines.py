"""Programs within calls: the time of the call is theirs, and what ends the call ends them."""

import subprocess

import pytest

import contextree
from tests.run import far

pytestmark = pytest.mark.leaks("contexts that have children keep the template that these were forked from")


@pytest.fixture(scope="module")
def pair(router):
    """A context, and one below it."""
    with router.local(name="above") as above:
        below = above.local(name="below")
        below.run(["true"])
        yield above.with_options(threads=8), below


def test_the_deadline_of_a_call_is_that_of_its_programs(pair, marked):
    above, below = pair
    with pytest.raises((contextree.CallTimeout, subprocess.TimeoutExpired)):  # both come at the same time
        above.with_options(timeout=0.5).call(far.run_marked, below, marked.env, 3600)
    marked.wait(0)


def test_what_is_left_of_it_is_what_the_program_is_told(pair):
    above, below = pair
    left = above.with_options(timeout=20).call(far.time_limit_of_run, below)
    assert 0 < left <= 20


def test_a_shorter_time_of_its_own_counts(pair, marked):
    above, below = pair
    with pytest.raises(subprocess.TimeoutExpired):
        above.with_options(timeout=50).call(far.run_marked, below, marked.env, 0.3)
    marked.wait(0)


@pytest.mark.parametrize("how", ["raise", "kill"])
def test_a_cancel_that_insists_ends_the_program(pair, marked, how):
    above, _ = pair
    future = above.with_options(cancel=how).submit(far.run_marked_below, marked.env)
    marked.wait(1)
    future.cancel()
    marked.wait(0)


def test_a_handle_in_a_call(pair, marked):
    above, below = pair
    with pytest.raises((contextree.CallTimeout, subprocess.TimeoutExpired)):
        above.with_options(timeout=0.5).call(far.popen_marked, below, marked.env)
    marked.wait(0)


def test_no_time_is_no_program(pair, marked):
    above, below = pair
    with pytest.raises(contextree.CallTimeout):
        above.with_options(timeout=0.3).call(far.run_too_late, below, marked.env)
    assert not marked.pids()
