"""``contextree ansible doctor`` says what would be accelerated, under each ansible-core."""

import json
import os
import subprocess

import pytest

from tests.ansible import cores

pytestmark = [pytest.mark.ansible, pytest.mark.timeout(300)]
INVENTORY = """\
all:
  hosts:
    web1:
    web2: {ansible_connection: "{{ way }}", way: ssh}
    here: {ansible_connection: local}
    fish: {ansible_shell_type: fish}
    switch: {ansible_connection: ansible.netcommon.network_cli}
    windows: {ansible_connection: winrm}
    shell: {ansible_shell_type: powershell}
    other: {ansible_become: true, ansible_become_method: runas}
    nobody: {ansible_become: true, ansible_become_method: no_such}
    sudo: {ansible_become: true}
    flags: {ansible_become: true, ansible_become_flags: "--askpass"}
    su: {ansible_become: true, ansible_become_method: su, ansible_become_password: p}
"""
CONFIG = "[defaults]\nstrategy = contextree.fast.free\ninventory = hosts.yml\n"


@pytest.fixture
def ask(core, tmp_path):
    """Runs it beside an inventory and an ansible.cfg: its output and status, or {what: fact} and {host: row}."""
    (tmp_path / "hosts.yml").write_text(INVENTORY)
    (tmp_path / "ansible.cfg").write_text(CONFIG)

    def ask(*words, **variables):
        environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **variables}
        done = subprocess.run([core.folder / "python", "-m", "contextree", "ansible", "doctor", *words], cwd=tmp_path,
                              env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        assert "Traceback" not in done.stderr, done.stderr
        if "--json" not in words:
            return done.stdout, done.returncode
        found = json.loads(done.stdout)
        assert found["ok"] is (done.returncode == 0)
        return {each["what"]: each for each in found["setup"]}, {row["host"]: row for row in found["hosts"]}

    return ask


@pytest.mark.parametrize("core", cores.PYTHONS, indirect=True)
def test_doctor_judges_hosts_as_they_are_configured(ask, core, tmp_path):
    setup, hosts = ask("--json")
    assert setup["ansible-core"]["text"].startswith(core.version + ".")
    assert (setup["strategy"]["ok"], setup["configuration"]["text"]) == (True, str(tmp_path / "ansible.cfg"))
    assert str(tmp_path / "ansible.cfg") in setup["strategy"]["text"]
    assert ("deprecation" in setup) is (core.number >= (2, 19))
    assert {name: (row["connection"], row["accelerated"]) for name, row in hosts.items()} == {
        **dict.fromkeys(("web1", "web2", "fish", "other", "nobody", "sudo", "su", "flags"),
                        ("contextree.fast.ssh", True)),
        "here": ("contextree.fast.local", True), "switch": ("ansible.netcommon.network_cli", False),
        "windows": ("winrm", False), "shell": ("contextree.fast.ssh", False)}
    notes = {name: " ".join(row["notes"]) for name, row in hosts.items()}
    assert not notes["web1"] and not notes["here"] and not notes["sudo"] and not notes["su"]
    for name, said in (("fish", "shell fish"), ("switch", "network device"), ("windows", "no connection of this kind"),
                       ("shell", "Windows"), ("other", "become by runas"), ("nobody", "there is no plugin no_such"),
                       ("flags", "become by sudo, with these options")):
        assert said in notes[name]


def test_doctor_text_is_short(ask):
    text, status = ask()
    assert status == 0
    assert "ok     hosts             web1, web2, sudo, su: by contextree.fast.ssh\n" in text
    assert text.endswith("9 of 12 hosts are accelerated\n")
    assert "\x1b" not in text
    text, status = ask("web*:here")
    assert text.endswith("3 of 3 hosts are accelerated\n")


def test_doctor_nothing_is_switched_on(ask):
    text, status = ask(ANSIBLE_STRATEGY="free")
    assert status == 1
    assert "WRONG  strategy          free, by env: ANSIBLE_STRATEGY: nothing is switched on" in text
    assert "write strategy = contextree.fast.free under [defaults] in ansible.cfg" in text
    assert ": as in stock, by ssh; nothing is switched on; contextree.fast.ssh would do\n" in text
    assert text.endswith("0 of 12 hosts are accelerated\n")


def test_doctor_transport_alone(ask):
    setup, hosts = ask("--json", ANSIBLE_STRATEGY="linear", ANSIBLE_TRANSPORT="contextree.fast.ssh",
                       ANSIBLE_KEEP_REMOTE_FILES="1")
    assert setup["strategy"]["ok"] and setup["transport"]["ok"] and setup["keep_remote_files"]["ok"] is None
    assert hosts["web1"]["accelerated"] and not hosts["here"]["accelerated"]
    assert "keep_remote_files" in hosts["web1"]["notes"][0]


def test_doctor_mitogen(ask, tmp_path):
    (tmp_path / "mitogen").mkdir()
    setup, _ = ask("--json", ANSIBLE_STRATEGY="mitogen_free", ANSIBLE_STRATEGY_PLUGINS=str(tmp_path / "mitogen"))
    assert setup["strategy"]["ok"] is False
    assert "write strategy = contextree.fast.free in its place" in setup["strategy"]["text"]
    setup, _ = ask("--json", ANSIBLE_STRATEGY_PLUGINS=str(tmp_path / "mitogen"))
    assert setup["strategy"]["ok"] and setup["mitogen"]["ok"] is None


def test_doctor_wrong_files(ask, tmp_path):
    (tmp_path / "hosts.yml").write_text("all: [")
    text, status = ask()
    assert status == 1 and "WRONG  inventory" in text
    (tmp_path / "ansible.cfg").write_text("no section\n")
    text, status = ask()
    assert status == 1 and "WRONG  ansible-core" in text and str(tmp_path / "ansible.cfg") in text


@pytest.mark.parametrize("core", [cores.OLDEST, cores.NEWEST], indirect=True)
def test_doctor_connects(ask, tmp_path, sshd):
    options = f"-F {sshd.ssh_config}"
    (tmp_path / "hosts.yml").write_text(
        f"all: {{vars: {{ansible_ssh_common_args: '{options}'}}, hosts: {{key: , nosuchuser@key: , "
        "here: {ansible_connection: local}}}\n")
    _, hosts = ask("--json", "--connect")
    assert hosts["key"]["connected"] and hosts["here"]["connected"]
    assert hosts["key"]["found"].startswith("Python 3.")
    assert hosts["nosuchuser@key"]["connected"] is False
    assert "nosuchuser@" in hosts["nosuchuser@key"]["found"]
