"""What ssh is told by variables: passwords, bastions, shells, terminals; and what is said where it is refused."""

import json
from pathlib import Path

import pytest

from tests.ansible import collections, cores
from tests.ansible.lab import ADDRESSES
from tests.ansible.plays import play
from tests.ansible.test_connections import same

pytestmark = [pytest.mark.ansible, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def bastion(lab):
    """Words of ssh options that go through the lab's other sshd."""
    lab.materials()
    pam = lab.sshd.daemons["pam"]["port"]
    config = Path(lab.sshd.directory, "ansible", "bastion")
    config.write_text(lab.ssh_config.read_text().replace("Port %d" % lab.sshd.port, "Port %d" % pam))
    return "ssh -F %s -W [%%h]:%%p %s@%s" % (config, lab.sshd.key_user, ADDRESSES[9]), pam


@pytest.fixture
def noisy(lab):
    """The account whose .bashrc says something."""
    path = Path("~%s/.bashrc" % lab.sshd.noisy_user).expanduser()
    path.write_text("echo welcome\\nexport COLOUR=noisy\n")
    yield lab.sshd.noisy_user
    path.unlink()


@pytest.mark.parametrize("core", [cores.NEWEST, cores.OLDEST], indirect=True)
def test_logins_as_in_stock(lab, core, bastion, noisy):
    """Shells, bastions, options of the connection, many who delegate to one."""
    proxy, pam = bastion
    hosts = {
        "h1": {"ansible_ssh_common_args": "-o ProxyCommand='%s'" % proxy},
        "h2": {"ansible_ssh_args": "-F %s -o ControlMaster=auto -o ControlPersist=30 -o ControlPath=%s/own-%%C" % (
            lab.ssh_config, lab.run), "ansible_ssh_use_tty": False},
        "b1": {"ansible_port": pam, "ansible_ssh_pipelining": False},
        "n3": {"ansible_user": noisy},
        "i3": {"ansible_host": "127.0.0.4", "ansible_ssh_common_args": "-o LogLevel=INFO"},
        "h4": {"ansible_ssh_transfer_method": "piped", "ansible_shell_executable": "/bin/bash"},
        "h5": {"ansible_ssh_transfer_method": "scp", "ansible_remote_tmp": "/var/tmp/of-$USER"},
    }
    for number, shell in enumerate(("tcsh", "zsh", "dash", "fish"), 5):
        if shell in lab.sshd.shell_users:
            hosts["s%d" % number] = {"ansible_user": lab.sshd.shell_users[shell]}
    environ = {"ANSIBLE_COLLECTIONS_PATH": str(collections.make())}
    found = [play(lab, core, "logins.yml", mode, hosts=hosts, environ=environ, forks=10)
             for mode in ("stock", "strategy")]
    assert not found[0].status, found[0].stdout
    same(*found)
    assert found[1].stats["links"] == len(hosts) + 1  # and the controller
    assert not found[1].stats["fallbacks"]


@pytest.mark.parametrize("core", [cores.NEWEST], indirect=True)
def test_passwords_and_refusals_as_in_stock(lab, core, bastion):
    """A password, a wrong one, a key that is not taken, a host key that is not known, nobody there."""
    user, password = lab.sshd.password_user, lab.sshd.password
    keyless = {"ansible_ssh_common_args": "-o PubkeyAuthentication=no"}
    hosts = {
        "h1": {**keyless, "ansible_user": user, "ansible_password": password},
        "h2": {**keyless, "ansible_user": user, "ansible_password": "wrong"},
        "h3": {**keyless, "ansible_user": user},
        "h4": {"ansible_ssh_common_args": "-o UserKnownHostsFile=/dev/null"},
        "h5": {"ansible_port": 1},
        "h6": {"ansible_host": "no-such-host.invalid"},
        "h7": {"ansible_ssh_executable": "/no/such/ssh"},
        "h8": {"ansible_ssh_common_args": "-o ProxyCommand='sleep 0.2'"},
        "h9": {**keyless, "ansible_user": user, "ansible_password": password, "ansible_sshpass_prompt": "Passphrase:"},
        "h10": {**keyless, "ansible_user": user, "ansible_password": "wrong", "ansible_port": bastion[1]},
        "h11": {**keyless, "ansible_user": user, "ansible_password": password,
                "ansible_ssh_password_mechanism": "disable"},
    }
    found = [play(lab, core, "refused.yml", mode, hosts=hosts, forks=10) for mode in ("stock", "strategy")]
    same(*found)
    text = json.dumps(found[1].rows) + found[1].stdout + found[1].stderr
    assert password not in text


def test_names_of_ssh_config(lab, core):
    """A host by a name that only ssh_config has."""
    text = lab.ssh_config.read_text()
    try:
        lab.ssh_config.write_text("Host web\n  HostName %s\n  User %s\n" % (ADDRESSES[3], lab.sshd.key_user) + text)
        hosts = {"h1": {"ansible_host": "web", "ansible_user": None}}
        found = [play(lab, core, "refused.yml", mode, hosts=hosts) for mode in ("stock", "strategy")]
    finally:
        lab.ssh_config.write_text(text)
    assert not found[0].status
    same(*found)
