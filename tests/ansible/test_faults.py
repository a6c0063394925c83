"""Hosts, links, modules and disks that fail: the same results and messages as in stock, and nothing is left."""

import json
import os
import pwd
import re
import subprocess
from pathlib import Path

import pytest

from tests.ansible import cores, plays
from tests.ansible.compare import differences
from tests.ansible.endings import Run

pytestmark = [pytest.mark.ansible, pytest.mark.timeout(300)]

PACE = re.compile(r"copied, [0-9.e-]+ s, [0-9.]+ .?B/s")


def masked(outcome):
    """The outcome without how quick dd was."""
    outcome.rows = json.loads(PACE.sub("copied", json.dumps(outcome.rows)))
    outcome.stdout = PACE.sub("copied", outcome.stdout)
    return outcome


def compared(lab, core, playbook, *, modes=("connection",), before=lambda: None, clean=True, **options):
    """Run it in stock and in our modes; nothing differs and ours leave nothing."""
    before()
    stock = masked(plays.play(lab, core, "faults/" + playbook, "stock", **options))
    for mode in modes:
        before()
        ours = masked(plays.play(lab, core, "faults/" + playbook, mode, masters=True, **options))
        assert ours.stats is not None, ours.stderr
        # whether stock hears of it as it writes, or a moment later, is chance
        found = [each for each in differences(stock, ours) if "[Errno 32] Broken pipe" not in each]
        assert not found, "\n".join(found)
        assert not clean or ours.left == []
    return stock, ours


@pytest.mark.parametrize("core", [cores.NEWEST, cores.OLDEST], indirect=True)
def test_hosts_that_cannot_be_reached(lab, core):
    """No port, no name, no key, no account, another key than ours, no ssh, options that it does not take, a shell that
    says no, a command that is forced."""
    other = lab.sshd.known_line(key="pam").split(None, 1)[1]
    known = Path(lab.sshd.directory, "ansible", "known")
    known.write_text("[127.0.0.5]:%d %s\n" % (lab.sshd.port, other))
    forced = Path(lab.sshd.directory, "keys", lab.sshd.noisy_user)
    kept = forced.read_text()
    shut = lab.sshd.shell_users["dash"]
    hosts = {
        "h1": {"ansible_port": 1}, "h2": {"ansible_host": "no-such-name.invalid"},
        "h3": {"ansible_user": "ctxt-nobody-there"},
        "h4": {"ansible_ssh_common_args": "-o UserKnownHostsFile=%s" % known},
        "h5": {"ansible_ssh_common_args": "-o UserKnownHostsFile=/dev/null"},
        "h6": {"ansible_ssh_executable": "/nonexistent/ssh"}, "h7": {"ansible_ssh_common_args": "-o NoSuchOption=1"},
        "h8": {"ansible_user": shut}, "h9": {"ansible_user": lab.sshd.noisy_user}, "h10": {},
    }  # fmt: skip
    try:
        subprocess.run(["usermod", "-s", "/usr/sbin/nologin", shut], check=True)
        forced.write_text(re.sub("^", 'command="echo forced; exit 3" ', kept, flags=re.MULTILINE))
        compared(lab, core, "reach.yml", hosts=hosts, forks=10)
    finally:
        subprocess.run(["usermod", "-s", "/bin/dash", shut], check=True)
        forced.write_text(kept)


def test_by_the_settings_core_says_something_else(lab, core):
    """Without pipelining what core tries first is a folder, and not a module."""
    hosts = {"h1": {"ansible_port": 1}, "h2": {"ansible_host": "no-such-name.invalid"},
             "h3": {"ansible_user": "ctxt-nobody-there"}}
    compared(lab, core, "reach.yml", modes=("connection", "strategy"), hosts=hosts, pipelining=False)


def test_a_wrong_password_is_tried_once(lab, core):
    """What stock says of it; the account is asked no more often than in stock."""
    log = Path(lab.sshd.daemons["plain"]["log"])
    hosts = {"h1": {"ansible_user": lab.sshd.password_user, "ansible_password": "it is not this",
                    "ansible_ssh_common_args": "-o PubkeyAuthentication=no"}}
    counts = []
    compared(lab, core, "reach.yml", hosts=hosts,
             before=lambda: counts.append(log.read_text().count("Failed password")))
    counts.append(log.read_text().count("Failed password"))
    assert counts[2] - counts[1] <= counts[1] - counts[0] > 0


def test_links_that_end(lab, core):
    """Sessions that are killed and ended, in tasks and between them."""
    compared(lab, core, "links.yml", modes=("connection", "strategy"), hosts={"h1": {}})


@pytest.mark.parametrize("core", [cores.NEWEST, cores.OLDEST], indirect=True)
def test_modules_that_break_things_and_tasks_that_take_too_long(lab, core):
    """Daemons, closed descriptors, aborts, no memory, 50 MB, timeouts, retries. What takes too long is ended."""
    _, ours = compared(lab, core, "breaks.yml", hosts={"h1": {}})
    assert ours.stats["links"] == 1
    assert not subprocess.run(["pgrep", "-u", lab.sshd.key_user, "-f", "sleep 600"], stdout=subprocess.PIPE).stdout


def test_disks_that_are_full_and_homes_that_are_not_there(lab, core, tmp_path):
    """Temporary files: no inode, no room, a disk that cannot be written to, no right, no home, a home that is shut."""
    base = "/run/%s-disks" % Path(lab.sshd.directory).name
    shut, gone = lab.sshd.shell_users["dash"], lab.sshd.noisy_user
    home = {name: Path(pwd.getpwnam(name).pw_dir) for name in (shut, gone)}
    away = home[gone].with_suffix(".away")
    within = ["nsenter", "-t", str(lab.sshd.daemons["plain"]["process"][0]), "-m", "/bin/sh", "-ec"]
    script = """
        for each in inodes small readonly; do mkdir -p "$0/$each"; done
        mount -t tmpfs -o nr_inodes=2,mode=1777 tmpfs "$0/inodes"; touch "$0/inodes/x"
        mount -t tmpfs -o size=64k,mode=1777 tmpfs "$0/small"
        mount -t tmpfs -o ro tmpfs "$0/readonly" """
    sizes = {"middling": 200000, "large": 400000}
    for name, size in sizes.items():
        (tmp_path / name).write_text("x" * size)
    hosts = {"h1": {"ansible_remote_tmp": base + "/inodes/t"}, "h2": {"ansible_remote_tmp": base + "/small/t"},
             "h3": {"ansible_remote_tmp": base + "/readonly/t"}, "h4": {"ansible_remote_tmp": "/root/t"},
             "h5": {"ansible_remote_tmp": "/etc/passwd/t"}, "h6": {"ansible_user": shut}, "h7": {"ansible_user": gone}}
    try:
        subprocess.run([*within, script, base], check=True)
        os.rename(home[gone], away)
        os.chown(home[shut], 0, 0)
        compared(lab, core, "disks.yml", hosts=hosts, forks=7,
                 variables={name: str(tmp_path / name) for name in sizes})
    finally:
        os.chown(home[shut], pwd.getpwnam(shut).pw_uid, -1)
        if away.exists():
            os.rename(away, home[gone])
        subprocess.run([*within, 'umount "$0"/*; rm -r "$0"', base], check=True)


def test_without_a_multiplexer_core_does_it(lab, core, tmp_path):
    """Where none can be started, that is said once, and all is as in stock."""
    (tmp_path / "sitecustomize.py").write_text("import os\ndel os.pidfd_open\n")
    ours = plays.play(lab, core, "smoke.yml", "connection", hosts={"h1": {}, "here": {}}, masters=True,
                      environ={"PYTHONPATH": str(tmp_path)})
    stock = plays.play(lab, core, "smoke.yml", "stock", hosts={"h1": {}, "here": {}})
    assert ours.stats is None
    assert ours.left == []
    assert ours.recap == stock.recap
    assert ours.stderr.count("falls back to stock execution: its multiplexer could not be started") == 1


def test_a_multiplexer_that_is_killed_is_started_anew(lab, core, tmp_path):
    """The kernel may want its memory: what ran then was on hosts that were lost, and the next task is well."""
    (tmp_path / "play.yml").write_text("""
- hosts: all
  gather_facts: false
  tasks:
    - ping:
    - delegate_to: localhost
      raw: |
        for p in /proc/[0-9]*; do
            readlink $p/fd/[0-9]* 2>/dev/null | grep -q "^{{ local_tmp }}/.*contextree.log$" && kill -9 ${p#/proc/}
        done; :
      vars: {ansible_connection: local}
    - command: echo back
    - copy: {content: x, dest: "{{ work }}/x"}
""")
    ours = plays.play(lab, core, str(tmp_path / "play.yml"), "connection", hosts={"h1": {}})
    assert [row["event"] for row in ours.rows] == ["v2_runner_on_ok"] * 4, ours.stdout
    assert ours.left == [], ours.stdout + ours.stderr
    assert ours.stats["links"] == 1  # of the second one


@pytest.mark.parametrize("password", ["right", "Canary-of-a-wrong-password"])
def test_passwords_are_in_nothing_that_is_written(lab, core, password):
    """Neither core's most talkative output nor the multiplexer's files nor arguments of processes tell them."""
    given = lab.sshd.password if password == "right" else password
    hosts = {"h1": {"ansible_user": lab.sshd.password_user, "ansible_password": given,
                    "ansible_ssh_common_args": "-o PubkeyAuthentication=no"}}
    with Run(lab, core, """
- hosts: all
  gather_facts: false
  tasks:
    - ping:
      ignore_unreachable: true
    - copy: {content: x, dest: "{{ work }}/x"}
      ignore_unreachable: true
    - delegate_to: localhost
      connection: local
      shell: |
        for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done > {{ work }}/words 2>/dev/null
        cat {{ local_tmp }}/*/contextree* > {{ work }}/files
""", "connection", hosts=hosts, args=("-vvvv",), environ={"ANSIBLE_DEBUG": "1"}) as run:
        run.end(100)
        assert run.left() == []
        assert run.stats.exists(), run.out.read_text()[-3000:]
        written = [run.out, run.stats, lab.work / "words", lab.work / "files"]
        assert all(path.read_text(errors="replace").strip() for path in written)
        assert not [path for path in written if given in path.read_text(errors="replace")]
