"""Folders from which nothing runs, and ways of ssh that few use: what comes of it is as in stock."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.ansible import compare, cores
from tests.ansible.plays import play

pytestmark = [pytest.mark.ansible, pytest.mark.timeout(400)]


@pytest.fixture
def noexec(lab):
    """A folder on the hosts, of a file system from which nothing can be run."""
    lab.materials()
    path = "/run/%s-noexec" % Path(lab.sshd.directory).name
    within = ["nsenter", "-t", str(lab.sshd.daemons["plain"]["process"][0]), "-m", "/bin/sh", "-ec"]
    subprocess.run([*within, 'mkdir -p "$0"; mount -t tmpfs -o noexec,mode=1777 tmpfs "$0"', path], check=True)
    yield path
    subprocess.run([*within, 'umount "$0"; rmdir "$0"', path], check=True)


@pytest.fixture
def agent(lab, tmp_path):
    """The socket of an agent that has a key, which lies in a file with a passphrase."""
    key, askpass = tmp_path / "key", tmp_path / "askpass"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "a passphrase", "-f", str(key)], check=True)
    askpass.write_text("#!/bin/sh\necho a passphrase\n")
    askpass.chmod(0o755)
    keys = Path(lab.sshd.directory, "keys", lab.sshd.key_user)
    kept = keys.read_text()
    keys.write_text(kept + key.with_suffix(".pub").read_text())
    path = str(tmp_path / "agent")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()  # it listens
        subprocess.run(["ssh-add", "-q", str(key)], check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       env={**os.environ, "SSH_AUTH_SOCK": path, "SSH_ASKPASS": str(askpass),
                            "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"})
        yield path
    finally:
        process.kill()
        process.communicate()
        keys.write_text(kept)


@pytest.mark.parametrize("core", [cores.NEWEST, cores.OLDEST], indirect=True)
def test_odd_folders_and_ways(lab, core, noexec, agent, tmp_path):
    """A wrapper that is a script with options of its own, quotes in options, an agent, a master of the user's own."""
    wrapper = tmp_path / "an ssh"
    wrapper.write_text('#!/bin/sh\nLC_OTHER="of the wrapper" exec ssh -o SendEnv=LC_OTHER "$@"\n')
    wrapper.chmod(0o755)
    tmp_path.chmod(0o755)
    for each in tmp_path.parents:
        if each.stat().st_uid == os.geteuid() and str(each).startswith("/tmp/"):
            each.chmod(0o755)
    alone = "-F %s" % lab.ssh_config
    hosts = {
        "h1": {"ansible_remote_tmp": noexec + "/t", "ansible_async_dir": noexec + "/a"},
        "h2": {"ansible_ssh_executable": str(wrapper), "ansible_ssh_extra_args": "-o 'SetEnv=LC_SENT=\"two words\"'"},
        "h3": {"ansible_ssh_args": alone + " -o 'ControlPath=\"%s/own one-%%C\"' -o ControlMaster=auto "
                                           "-o ControlPersist=2" % lab.run},
        "h4": {"ansible_ssh_common_args": '-o IdentityAgent="%s" -o IdentitiesOnly=no -o IdentityFile=none' % agent},
        "h5": {"ansible_ssh_common_args": "-o IdentityAgent=SSH_AUTH_SOCK -oIdentitiesOnly=no -o IdentityFile=none",
               "ansible_shell_executable": "/bin/bash"},
    }
    found = [play(lab, core, "odd.yml", mode, hosts=hosts, forks=5, timeout=200,
                  environ={"SSH_AUTH_SOCK": agent}) for mode in ("stock", "strategy")]
    stock, ours = found
    assert stock.rows[-1]["task"] == "the end of odd", stock.stdout
    said = {row["host"]: row["result"]["stdout"] for row in stock.rows if row["task"] == "raw"}
    assert not [row for row in stock.rows if row["host"] == "h3" and row["event"] == "v2_runner_on_unreachable"]
    assert "two words|of the wrapper" in said["h2"]
    assert compare.differences(stock, ours) == []
    assert ours.left == []
    assert ours.stats["links"] == len(hosts)
    assert not ours.stats["fallbacks"]
