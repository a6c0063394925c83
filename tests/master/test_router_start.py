"""What a router does before the first child: little."""

import contextree


def test_dill_is_shared_and_nothing_is_read_for_it():
    with contextree.Router() as router:
        assert router.finder.is_allowed("dill._dill")
        assert router.finder.counters["requests"] == 0
        below = router.local(env={"PYTHONPATH": None}, python="python3 -S").with_options(timeout=20)
        assert below.call(lambda x: x + 1, 41) == 42
    with contextree.Router(block=["dill"]) as router:
        assert not router.finder.is_allowed("dill")
