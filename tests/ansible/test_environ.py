"""The environment on the controller, where something in ansible's own processes changes it."""

import pytest

from tests.ansible import compare, cores
from tests.ansible.plays import play

pytestmark = [pytest.mark.ansible, pytest.mark.timeout(900)]
HOSTS = {"here": {}, "h1": {}}
ENVIRON = {"ANSIBLE_CALLBACKS_ENABLED": "collect,changes", "CTXT_GONE": "there"}


@pytest.mark.parametrize("core", cores.PYTHONS, indirect=True)
def test_what_runs_here_has_the_environment_of_its_worker(lab, core):
    """What a callback plugin or a lookup plugin has changed; and one interpreter is enough until they do."""
    stock = play(lab, core, "strategy/environ.yml", "stock", hosts=HOSTS, environ=ENVIRON)
    said = [row["result"]["stdout"].strip() for row in stock.by_host()["here"]]
    assert stock.status == 0 and said == [
        "first, there,", "first, there,", "first, there, yes 1", "first, there,", "the task, there,",
        "second, ,", "second, ,", "second, , yes 1", "second, ,", "the task, ,"], stock.stdout + stock.stderr
    for mode in ("connection", "strategy"):
        ours = play(lab, core, "strategy/environ.yml", mode, hosts=HOSTS, environ=ENVIRON)
        assert compare.differences(stock, ours) == [], mode
        assert ours.left == [] and ours.stats["fallbacks"] == {} and ours.stats["module"] == 16
        assert ours.stats["links"] == 5  # to the host, and for each of four environments
