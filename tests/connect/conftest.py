"""A private sshd, its users, and a small runner of plans, for the tests of connection methods."""

import os
import pathlib
import select
import shutil
import socket
import subprocess
import tempfile
import time
import types

import pytest

from contextree.connect.dialogue import Failed, Reply
from contextree.connect.plan import command
from contextree.parent import tty

LIMIT = 60      # seconds until a hang becomes a failure


def install(*packages):
    """Install Debian packages that are missing; waits for another apt to end."""
    have = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Status}\n", *packages], capture_output=True,
                          text=True).stdout
    missing = [name for name in packages if f"{name} install ok installed" not in have]
    if missing:
        apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq"]
        env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        subprocess.run([*apt, "update"], env=env, check=True, capture_output=True)
        subprocess.run([*apt, "install", "-y", "--no-install-recommends", *missing], env=env, check=True,
                       capture_output=True)


class Sshd:
    """One sshd on 127.0.0.1 with a host key of its own."""

    def __init__(self, folder, name, keys, *lines):
        self.folder = folder / name
        self.folder.mkdir()
        self.key = self.folder / "host_key"
        keygen(self.key)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        conf = self.folder / "conf"
        conf.write_text("\n".join([
            "ListenAddress 127.0.0.1", f"Port {self.port}", f"HostKey {self.key}", "PidFile none",
            f"AuthorizedKeysFile {keys}", "StrictModes no", "UseDNS no", "PrintMotd no", "PrintLastLog no",
            "MaxStartups 100", *lines, ""]))
        self.log = self.folder / "log"
        self.process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", str(conf), "-E", str(self.log)],
                                        stdin=subprocess.DEVNULL)
        wait_for_banner(self)

    def known(self, key=None):
        """The line of known_hosts for this server, or with another's key."""
        kind, data = (key or self.key).with_suffix(".pub").read_text().split()[:2]
        return f"[127.0.0.1]:{self.port} {kind} {data}\n"

    def close(self):
        self.process.terminate()
        self.process.wait(LIMIT)


def wait_for_banner(sshd):
    """Return when the server greets; refused connections are tried again until it listens or has ended."""
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            with socket.create_connection(("127.0.0.1", sshd.port), LIMIT) as link:
                assert link.recv(4) == b"SSH-"
                return
        except ConnectionRefusedError:
            assert sshd.process.poll() is None and time.monotonic() < deadline, sshd.log.read_text()
            select.select([], [], [], 0.02)


def keygen(path, passphrase=""):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)], check=True)


def useradd(name, password=None):
    subprocess.run(["useradd", "-m", "-s", "/bin/bash", name], check=True, capture_output=True)
    if password is None:            # '*' refuses passwords and takes keys, '!' would refuse both without PAM
        subprocess.run(["usermod", "-p", "*", name], check=True)
    else:
        subprocess.run(["chpasswd"], input=f"{name}:{password}", text=True, check=True)


@pytest.fixture(scope="session")
def lab():
    """Servers ``one`` (with PAM) and ``two`` (without), users, keys, and an ssh_config with an empty home."""
    install("openssh-server", "openssh-client")
    os.makedirs("/run/sshd", exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ctxc-"))
    folder.chmod(0o755)             # sshd reads the keys as the user who logs in
    (folder / "keys").mkdir()
    tail = f"{os.getpid():x}"
    box = types.SimpleNamespace(folder=folder, key_user=f"ctxc-k{tail}", password_user=f"ctxc-p{tail}",
                                password="Canary #7 \\o/ 'x' \"y\"", passphrase="Canary of the key",
                                plain_key=folder / "plain", locked_key=folder / "locked", servers=[])
    try:
        keygen(box.plain_key)
        keygen(box.locked_key, box.passphrase)
        useradd(box.key_user)
        useradd(box.password_user, box.password)
        public = "".join(key.with_suffix(".pub").read_text() for key in (box.plain_key, box.locked_key))
        for name in (box.key_user, "root"):
            (folder / "keys" / name).write_text(public)
        for name, pam in ("one", "yes"), ("two", "no"):
            server = Sshd(folder, name, folder / "keys/%u", f"UsePAM {pam}", "PasswordAuthentication yes",
                          f"KbdInteractiveAuthentication {pam}", "AllowTcpForwarding yes", "PermitRootLogin no")
            box.servers.append(server)
            setattr(box, name, server)
        box.known = folder / "known"
        box.known.write_text(box.one.known() + box.two.known())
        box.config = folder / "config"
        box.config.write_text(
            f"Host jump\n  Port {box.one.port}\n  User {box.key_user}\n"
            f"Host final\n  Port {box.two.port}\n"
            "Host *\n  HostName 127.0.0.1\n  IdentityAgent none\n  IdentityFile none\n"
            f"  UserKnownHostsFile {box.known}\n  GlobalKnownHostsFile /dev/null\n")
        yield box
    finally:
        for server in box.servers:
            server.close()
        for name in (box.key_user, box.password_user):
            subprocess.run(["userdel", "-rf", name], capture_output=True)
        shutil.rmtree(folder)


class Run:
    """What became of a plan: ``hello`` (bytes of stdout up to the line end), ``failed``, ``status``, ``why``..."""

    def __init__(self, plan, stage, on_hello=None):
        self.plan, self.hello, self.failed, self.replies, self.stderr = plan, b"", None, 0, b""
        if plan.probe:
            plan.dialogue.learn(subprocess.run(plan.probe, capture_output=True, stdin=subprocess.DEVNULL,
                                               check=True).stdout)
        argv = command(plan, stage)
        env = dict(os.environ)
        for key, value in (plan.env or {}).items():
            env.pop(key, None)
            if value is not None:
                env[key] = value
        self.pty = tty.open_pty() if plan.tty else None
        argv = tty.wrap(argv, self.pty.path) if self.pty else argv
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        start_new_session=True, env=env)
        try:
            self._talk()
            if self.hello and on_hello:
                on_hello(self)
        finally:
            self._end()
        self.output = (plan.dialogue.explain() if plan.dialogue else "") + "\n" + self.stderr.decode()
        self.why = plan.explain(self.status, self.output)

    def _talk(self):
        out, err = self.process.stdout.fileno(), self.process.stderr.fileno()
        master = self.pty.master if self.pty else None
        waiting = [out, err] + ([master] if self.pty else [])
        while out in waiting and not self.hello.endswith(b"\n") and not self.failed:
            ready = select.select(waiting, [], [], LIMIT)[0]
            assert ready, ("nothing more came", self.stderr, self.plan.dialogue and self.plan.dialogue.explain())
            for fd in ready:
                data = tty.read(fd)
                if not data:
                    waiting.remove(fd)
                elif fd == out:
                    self.hello += data
                elif fd == err:
                    self.stderr += data
                    if self.plan.dialogue:
                        self.plan.dialogue.note(data)
                else:
                    self._act(self.plan.dialogue.feed(data))

    def _act(self, actions):
        for action in actions:
            if isinstance(action, Reply):
                self.replies += 1
                os.write(self.pty.master, action.data)
            elif isinstance(action, Failed):
                self.failed = action

    def _end(self):
        if self.pty:
            self.pty.close()
        if self.failed:
            self.process.kill()
        self.process.stdin.close()
        self.stderr += self.process.stderr.read()
        self.process.stderr.close()
        self.process.stdout.close()
        self.status = self.process.wait(LIMIT)


@pytest.fixture
def run():
    """Carry out a plan: run(plan, stage=...) -> Run."""
    def go(plan, stage=("-c", 'import sys; print("hello", flush=True); sys.stdin.read()'), **kwargs):
        return Run(plan, list(stage), **kwargs)
    return go
