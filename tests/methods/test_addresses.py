"""Addresses whose hops change the account and the root directory, for real; passwords beside them, not in them."""

import os
import pwd

import pytest

import contextree
from tests.cli.test_cli import command, on_terminal
from tests.lab.poll import until

PYTHON = "python=/usr/bin/python3"  # the one that every account can run


def uid(user):
    return pwd.getpwnam(user).pw_uid


@pytest.fixture
def to_dan(accounts):
    """From root to ann, who may become dan with her password."""
    return "runuser:%s?%s/sudo:%s?%s" % (accounts.ann, PYTHON, accounts.dan, PYTHON)


def test_stacked_accounts_and_a_password_that_is_asked_for_when_it_is_needed(router, accounts, to_dan):
    asked = []

    def ask(hop):
        asked.append(str(hop))
        return {"password": accounts.password}

    ends = [router.open(to_dan + "/local:", options={"sudo": ask}) for _ in range(2)]
    assert [end.call(os.getuid) for end in ends] == [uid(accounts.dan)] * 2
    assert ends[0].parent is ends[1].parent
    assert ends[0].parent.parent.call(os.getuid) == uid(accounts.ann)
    assert len(asked) == 1 and asked[0].startswith("sudo:" + accounts.dan)
    assert ends[0].address == "runuser:%s/sudo:%s/local:" % (accounts.ann, accounts.dan)
    rows = [line.split()[3] for line in router.tree().splitlines()[1:]]
    assert rows == ["runuser:" + accounts.ann, "sudo:" + accounts.dan, "local", "local"]


def test_a_wrong_password_says_at_which_hop_and_is_tried_once(router, accounts, to_dan):
    wrong = contextree.Secret("wrong " + accounts.tag)
    with pytest.raises(contextree.AuthenticationError) as caught:
        router.open(to_dan + "/local:", options={"sudo:%s" % accounts.dan: {"password": wrong}})
    error = caught.value
    via = "runuser." + accounts.ann
    assert (error.hop, error.hops, error.phase, error.via) == (2, 3, "login", via)
    assert error.context == "%s.sudo.%s" % (via, accounts.dan)
    assert str(error).startswith("hop 2 of 3 (sudo:%s?%s at %s): " % (accounts.dan, PYTHON, via))
    assert wrong.reveal() not in str(error) + repr(error.__dict__)
    until(lambda: not router.contexts, "what was opened on the way to end")


def test_become_password_on_the_command_line(accounts, to_dan):
    status, said = on_terminal({b"Password for sudo, su, doas: ": accounts.password}, "call", "-K", to_dan, "os:getuid")
    assert (status, said.split()[-1]) == (0, str(uid(accounts.dan))), said
    assert accounts.password not in said
    done = command("call", "%s/sudo:%s" % (to_dan, accounts.dan), "os:getuid")
    assert done.returncode == 1
    assert "hop 2 of 3 (sudo:%s?%s at runuser.%s)" % (accounts.dan, PYTHON, accounts.ann) in done.stderr
