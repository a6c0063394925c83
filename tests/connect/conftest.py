"""A small runner of plans, and the private sshd as these tests name its parts."""

import os
import pathlib
import select
import subprocess
import types

import pytest

from contextree.connect.dialogue import Failed, Reply
from contextree.connect.plan import command
from contextree.parent import tty

LIMIT = 60      # seconds until a hang becomes a failure


class Server:
    """One of the two sshd: ``port``, ``log`` (a Path), ``known()``."""

    def __init__(self, sshd, name):
        self.sshd, self.name = sshd, name
        self.port = sshd.daemons[name]["port"]
        self.log = pathlib.Path(sshd.daemons[name]["log"])

    def known(self, key=None):
        """The line of known_hosts for this server, or with another server's key."""
        return self.sshd.known_line(self.name, key and key.name)


@pytest.fixture(scope="session")
def lab(sshd, tmp_path_factory):
    """Servers ``one`` (with PAM) and ``two`` (without), users, keys, and an ssh_config with an empty home."""
    folder = tmp_path_factory.mktemp("lab")
    box = types.SimpleNamespace(
        folder=folder, key_user=sshd.key_user, password_user=sshd.password_user, password=sshd.password,
        passphrase=sshd.passphrase, plain_key=pathlib.Path(sshd.key), locked_key=pathlib.Path(sshd.passphrase_key),
        one=Server(sshd, "pam"), two=Server(sshd, "plain"), known=pathlib.Path(sshd.known_hosts),
        config=folder / "config")
    box.config.write_text(
        f"Host jump\n  Port {box.one.port}\n  User {box.key_user}\n"
        f"Host final\n  Port {box.two.port}\n"
        "Host *\n  HostName 127.0.0.1\n  IdentityAgent none\n  IdentityFile none\n"
        f"  UserKnownHostsFile {box.known}\n  GlobalKnownHostsFile /dev/null\n")
    return box


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
