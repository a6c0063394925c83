"""Bulk that passes through a context on its way up and down."""

import itertools
import logging

import contextree


def test_bulk_of_a_grandchild_reaches_the_root(caplog):
    """A frame of bulk that was forwarded upward met a link without the count of what waits, and was lost."""
    with contextree.Router() as router, caplog.at_level(logging.INFO):
        below = router.local().with_options(timeout=20).local(name="below").with_options(timeout=20)
        assert len(below.call(bytes, 3 << 20)) == 3 << 20
        with below.stream(itertools.count) as numbers:
            assert list(itertools.islice(numbers, 5000)) == list(range(5000))
    assert caplog.messages == []
