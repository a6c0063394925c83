"""One quick playbook of everything usual, under stock and under ours, for the suite of every day."""

import pytest

from tests.ansible import compare
from tests.ansible.plays import play

HOSTS = {"h1": {}, "h2": {}, "here": {}}


@pytest.mark.timeout(150)
def test_smoke(lab, core):
    """Modules of all kinds, files, commands and loops come out the same, and ours ran them."""
    stock = play(lab, core, "smoke.yml", "stock", hosts=HOSTS)
    assert stock.status == 0 and len(stock.rows) == 21, stock.stdout + stock.stderr
    ours = play(lab, core, "smoke.yml", "strategy", hosts=HOSTS)
    assert compare.differences(stock, ours) == []
    assert ours.left == []
    assert ours.stats is not None and ours.stats.get("module", 0) >= 15, ours.stats
