"""Become: what playbooks find in other accounts, by every way and with every refusal, is what they find in stock."""

import secrets
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.ansible import collections, compare, cores, plays
from tests.ansible.lab import PLAYBOOKS

pytestmark = [pytest.mark.ansible, pytest.mark.timeout(600)]

PROGRAMS = ("dzdo", "ksu", "machinectl", "pbrun", "pfexec", "pmrun", "run0", "sesu")


@pytest.fixture(scope="module", autouse=True)
def made(lab):
    """What the lab makes when it is first asked for stays to its end."""
    lab.materials()
    return lab.accounts


def hosts(lab, *names: str, **variables: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """h1, h2, ... with these accounts to log in to; ``here`` is the controller."""
    found: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(names, 1):
        if name == "here":
            found["here"] = {}
            continue
        user = "root" if name == "root" else getattr(lab.accounts, name)
        found["h%d" % number] = {"ansible_user": user, **variables.get(name, {})}
        if name in ("ann", "chat"):
            found["h%d" % number].setdefault("ansible_become_password", lab.accounts.password)
    return found


def names(lab) -> dict[str, str]:
    """Variables that playbooks name accounts by."""
    known = ("tag", "ann", "bob", "dan", "nob", "told", "target_password", "password")
    return {name: getattr(lab.accounts, name) for name in known}


def both(lab, core, playbook: str, who: dict[str, dict[str, Any]], more: dict[str, str] | None = None,
         mode: str = "connection", **options: Any) -> plays.Outcome:
    """Play it in stock and by our connections; what ours did, if that was the same. ``more``: variables."""
    given = {**names(lab), **(more or {})}
    stock, ours = (plays.play(lab, core, "become/" + playbook, mode, hosts=who, variables=given, **options)
                   for mode in ("stock", mode))
    assert stock.rows
    assert compare.differences(stock, ours) == []
    assert ours.left == []
    return ours


def test_accounts_are_as_in_stock(lab, core):
    ours = both(lab, core, "accounts.yml", hosts(lab, "bob"))
    assert ours.stats["links"] == 1
    # sudo's flags of seven kinds, dan, and root by the default ones; more where others change the machine meanwhile
    assert 9 <= ours.stats["escalations"] < 15


@pytest.mark.parametrize("core", [cores.NEWEST, cores.OLDEST], indirect=True)
def test_passwords_and_their_refusals(lab, core):
    ours = both(lab, core, "passwords.yml", hosts(lab, "ann"))
    assert not any("become by" in reason for reason in ours.stats["fallbacks"])


def test_sudo_that_says_more(lab, core):
    both(lab, core, "more.yml", hosts(lab, "chat"))


@pytest.mark.parametrize("pipelining", [True, False])
def test_rules_that_do_not_allow_all(lab, core, pipelining):
    both(lab, core, "rules.yml", hosts(lab, "term", "few", "out"), pipelining=pipelining)


@pytest.mark.parametrize("core", [cores.MIDDLE], indirect=True)
def test_other_ways(lab, core):
    ours = both(lab, core, "others.yml", hosts(lab, "root", "here"), masters=True)
    assert set(ours.stats["fallbacks"]) == {"become by own"}


def test_what_is_changed_on_a_host_shows_in_the_next_task(lab, core):
    both(lab, core, "renewed.yml", hosts(lab, "bob", "ann"))


@pytest.mark.parametrize("core", [cores.NEWEST, cores.OLDEST], indirect=True)
def test_nobody_asks_in_time(lab, core):
    both(lab, core, "late.yml", hosts(lab, "ann"), args=("-T", "2"))


@pytest.mark.parametrize("core", [cores.NEWEST, cores.OLDEST], indirect=True)
def test_nobody_is_let_in_in_time(lab, core):
    both(lab, core, "slow.yml", hosts(lab, "bob", "here"), args=("-T", "1"))


def test_doas(lab, core):
    both(lab, core, "doas.yml", hosts(lab, "bob", "ann", "few"), pipelining=False)


@pytest.mark.parametrize("core", [cores.NEWEST, cores.OLDEST], indirect=True)
def test_plugins_of_collections(lab, core):
    """Programs that we know nothing of are run by core's own connection."""
    programs = Path(lab.sshd.directory, "ansible", "programs")
    programs.mkdir(exist_ok=True)
    for name in PROGRAMS:
        shutil.copy(PLAYBOOKS / "named/named.sh", programs / name)
        (programs / name).chmod(0o755)
    ours = both(lab, core, "../named/named.yml", hosts(lab, "bob"), more={"programs": str(programs)}, mode="strategy",
                masters=True, timeout=200, environ={"ANSIBLE_COLLECTIONS_PATH": str(collections.make())})
    wanted = {"become by community.general." + name for name in PROGRAMS}
    # these two want a terminal, which core asks for since 2.19
    assert wanted - {"become by community.general.machinectl", "become by community.general.run0"} <= set(
        ours.stats["fallbacks"]) <= wanted
    assert ours.stats["links"] == 1


def test_tasks_that_come_at_once_wait_for_one_escalation(lab, core):
    same = {"ansible_host": "127.0.0.2", "ansible_user": lab.accounts.bob}
    outcome = plays.play(lab, core, "become/once.yml", "connection", hosts={"h%d" % n: same for n in range(1, 6)},
                         variables=names(lab))
    assert outcome.status == 0, outcome.stdout
    assert outcome.stats["links"] == 1
    assert 2 <= outcome.stats["escalations"] < 6, "root, and dan, for fifteen tasks"


def test_a_wrong_password_is_given_once(lab, core):
    """The account's log of failures is PAM's business; sudo's own log is on the host."""
    who = hosts(lab, "ann", ann={"ansible_become_password": "wrong " + secrets.token_hex(4)})
    outcome = plays.play(lab, core, "become/wrong.yml", "connection", hosts=who, variables=names(lab))
    assert outcome.stats["refused"] == 1
    assert "Incorrect sudo password" in outcome.stdout


def test_a_password_shows_nowhere(lab, core):
    """Not in the arguments and environment of any process on the host or here, nor in what is said at any verbosity."""
    secret = lab.accounts.password
    outcome = plays.play(lab, core, "become/nowhere.yml", "connection", hosts=hosts(lab, "ann"), args=("-vvvvv",))
    assert outcome.status == 0, outcome.stdout
    assert outcome.stats["escalations"]
    shown = next(row for row in outcome.rows if row["task"] == "all processes")["result"]["stdout"]
    assert "sudo" in shown
    assert shown.count("ansible-playbook") >= 3, "the main process, a worker, and the multiplexer, which is forked"
    assert secret not in shown
    assert secret not in outcome.stdout + outcome.stderr
