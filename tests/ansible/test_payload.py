"""Payloads taken apart: those that are known, and nothing else. With texts of our own in core's two formats."""

import hashlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_plugin.controller import payload
from tests.ansible import payloads

SOURCE = "from ansible.module_utils.basic import AnsibleModule\nAnsibleModule().exit_json(changed=False)\n"


@pytest.fixture(autouse=True)
def template(monkeypatch):
    """The template of a core before 2.19: here our own."""
    monkeypatch.setattr(payload, "templates", lambda: (payloads.OLD, payloads.LIMIT))


@pytest.fixture(params=[False, True], ids=["call", "template"])
def old(request):
    """Either format."""
    return request.param


def test_what_is_in_a_payload(old):
    data = payloads.archive(SOURCE, old=old)
    found = payload.take_apart(payloads.payload(SOURCE, old=old, data=data, limit=4096))
    assert found is not None
    assert found.zip_data() == data
    assert found.digest == hashlib.sha256(found.zip_text).hexdigest()
    assert found.task == {"fqn": "ansible.modules.probe", "params": payloads.PARAMS.encode(), "rlimit": 4096,
                          "profile": None if old else "legacy", "extensions": {}, "env": {}}


def test_a_limit_may_be_missing(old):
    assert payload.take_apart(payloads.payload(SOURCE, old=old)).task["rlimit"] == 0


def test_arguments_of_any_text(old):
    """Quotes, newlines, what looks like the end of the wrapper: all is one literal."""
    for text in ("it's", '"', "\\", "\n)\n", payload._CALL.decode(), "zip_data='AAAA',", "\u20ac\U0001f600", "\r\x00"):
        params = '{"ANSIBLE_MODULE_ARGS": "%s"}' % text
        assert payload.take_apart(payloads.payload(SOURCE, old=old, params=params)).task["params"] == params.encode()
    assert payload.take_apart(payloads.payload(SOURCE, old=old, params='{"\udc80"}')) is None  # stock fails, too


@pytest.mark.parametrize("changed", [
    {"extensions": "{'_coverage': {'config': 'x'}}"},
    {"extensions": "{'_debugpy': {}}"},
    {"profile": "None"},
    {"profile": "open('/etc/passwd').read()"},
    {"module_fqn": "'not a name'"},
    {"module_fqn": "ansible.modules.ping"},
    {"rlimit_nofile": "-1"},
    {"rlimit_nofile": "True"},
    {"rlimit_nofile": "'1'"},
    {"params": "b'{}'"},
    {"params": "'[]'"},
    {"zip_data": "'AAA'"},
    {"zip_data": "'AA*A'"},
    {"zip_data": "''"},
    {"zip_data": "'AAAA' * 3"},
    {"date_time": "__import__('os').getpid()"},
    {"new_argument": "1"},
])
def test_other_arguments_are_not_known(changed):
    assert payload.take_apart(payloads.payload(SOURCE, **changed)) is None


@pytest.mark.parametrize("changed", [
    {"coverage": "\n        import coverage\n"},
    {"rlimit": "    import resource\n"},
    {"shebang": "#!/usr/bin/python3\nimport os"},
    {"coding": "# -*- coding: latin1 -*-\nimport os"},
    {"date_time": "os.getpid()\n        os.abort()"},
    {"params": "open('/etc/passwd').read()"},
    {"module_fqn": "1"},
    {"zipdata": "AA*A"},
])
def test_other_texts_in_the_places_of_a_template_are_not_known(changed):
    assert payload.take_apart(payloads.payload(SOURCE, old=True, **changed)) is None


def test_a_name_must_be_the_same_everywhere():
    data = payloads.payload(SOURCE, old=True)
    changed = data.replace(b"mod_name='ansible.modules.probe'", b"mod_name='ansible.modules.other'")
    assert changed != data
    assert payload.take_apart(changed) is None


def test_a_core_without_a_template(monkeypatch):
    monkeypatch.setattr(payload, "templates", lambda: None)
    assert payload.take_apart(payloads.payload(SOURCE, old=True)) is None
    assert payload.take_apart(payloads.payload(SOURCE)) is not None


def test_a_template_that_is_not_known(monkeypatch):
    for change in (("%(coverage)s", "%(coverage)s%(more)s"), ("basic._ANSIBLE_ARGS = json_params", "pass")):
        template = payloads.OLD.replace(*change)
        monkeypatch.setattr(payload, "templates", lambda template=template: (template, payloads.LIMIT))
        places = {"more": "", **dict.fromkeys(payload._PLACES, ""), "zipdata": "AAAA", "params": "'{}'"}
        assert payload.take_apart((template % places).encode()) is None


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\necho _ANSIBALLZ_WRAPPER = True\n", b"\0" * 5000, b"import os\n"])
def test_what_is_no_payload(data):
    assert payload.take_apart(data) is None


def test_text_before_or_after_it(old):
    data = payloads.payload(SOURCE, old=old)
    assert payload.take_apart(data) is not None
    assert payload.take_apart(data + b"import os\n") is None
    assert payload.take_apart(data + b"\n") is None
    if old:
        assert payload.take_apart(b"import os\n" + data) is None


@settings(max_examples=300, deadline=None)
@given(old=st.booleans(), where=st.floats(0, 1, exclude_max=True), tail=st.booleans(),
       change=st.binary(min_size=1, max_size=4), drop=st.integers(0, 4))
def test_damaged(old, where, tail, change, drop):
    """A payload with some bytes changed is none, or what it says is what is in it."""
    data = DAMAGED[old]
    at = int(where * len(data)) if not tail else len(data) - 1 - int(where * 600)
    damaged = data[:at] + change + data[at + drop:]
    payload.templates = lambda: (payloads.OLD, payloads.LIMIT)
    found = payload.take_apart(damaged)
    if found is not None and found != payload.take_apart(data):
        assert found.task["params"][:1] == b"{"
        assert found.zip_text in damaged
        assert payload._NAME.fullmatch(found.task["fqn"])
        assert found.task["extensions"] == {}


DAMAGED = {old: payloads.payload(SOURCE, old=old) for old in (False, True)}


def test_it_is_fast(old):
    """Two hundred kilobytes take less time than a task has for them."""
    data = payloads.payload(SOURCE, old=old, files={"ansible/x.bin": bytes(hashlib.shake_128(b"x").digest(150000))})
    took = []
    for _ in range(20):
        begin = time.thread_time()
        assert payload.take_apart(data) is not None
        took.append(time.thread_time() - begin)
    assert min(took) < 0.005
