"""``ssh``: one link for each host and run.

All that core's connection does stays core's: it puts the command line together, retries, and says what is wrong. In
place of running ssh for each command it comes here, where the command goes over the link that was opened by the first.
"""

import hashlib
import os
import re
from typing import Any

from ansible.plugins.connection import ssh as core

import contextree
from contextree.connect import discover
from contextree.connect import ssh as method
from contextree.connect.plan import PYTHON_QUOTED, Plan, checked_secret, safe_name
from contextree.connect.ssh_dialogue import SshDialogue

from . import fast
from .hosts import Link

#: Before all else, as ssh takes the first value that it is given.
OURS = ["-T", "-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "RemoteCommand=none"]
_TERMINAL = re.compile(r"-tt?$|(-o)?requesttty[ =]*(yes|force)$", re.IGNORECASE)
PASSED_ON = ("SSH_AUTH_SOCK", "SSH_AGENT_PID", "HOME", "PATH", "KRB5CCNAME")


def link(argv: list[str], host: str, user: str | None, password: Any, timeout: float) -> Link:
    """A link by the command ``argv``, which ends before the host's name."""
    host = str.__str__(host)  # without the tags of ansible-core 2.19
    env: dict[str, str | None] = {name: os.environ.get(name) for name in PASSED_ON}
    env["SSH_ASKPASS_REQUIRE"] = "never"
    words = [argv[0], *OURS, *argv[1:]]
    phases = dict.fromkeys(("connect", "login", "boot"), timeout + 20)
    plan = Plan([*words, "--", host, PYTHON_QUOTED], safe_name("ssh." + host), "ssh", python=discover.WORDS,
                remote=True, classify=method.classify, env=env, phases=phases)
    if password:
        secret = checked_secret(str(password), "password")
        plan = plan.copy(tty=True, probe=[*words, "-G", "--", host], dialogue=SshDialogue(
            user, host, None, True, {"password": secret, "passphrase": None, "otp": None}))
    text = repr((words, host, sorted(env.items()), password and str(password)))
    return Link("ssh." + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(), plan)


class Ssh(fast.Fast):
    """What our ``ssh`` mixes into core's."""

    _asked = None  # what core is to run

    def link(self) -> Link:
        """See Fast."""
        self.host = self.get_option("host") or self._play_context.remote_addr
        words = [word.decode("utf-8", "surrogateescape") for word in self._build_command(
            self.get_option("ssh_executable"), "ssh")]
        words = words[words.index(self.get_option("ssh_executable")):]  # without sshpass
        if getattr(self._shell, "_IS_WINDOWS", False):
            raise fast.Stock("Windows")
        if self._terminal_is_requested(words):
            raise fast.Stock("ssh is told to ask for a terminal")
        return link(words, self.host, self.get_option("remote_user"),
                    self.get_option("password") or self._play_context.password, float(self.get_option("timeout")))

    def _terminal_is_requested(self, words: list[str]) -> bool:
        if hasattr(core.Connection, "_is_tty_requested"):
            return bool(self._is_tty_requested())
        return any(_TERMINAL.match(word) for word in words)  # before 2.19, which parses them as ssh does

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> Any:
        """See core."""
        try:
            self.host = self.get_option("host") or self._play_context.remote_addr
            answer = self.at_once(cmd, sudoable)
        except (fast.Stock, contextree.ContextreeError):
            answer = None
        if answer is not None:
            return answer
        self._asked = cmd
        try:
            return core.Connection.exec_command(self, cmd, in_data, sudoable)
        finally:
            self._asked = None

    def _bare_run(self, cmd: Any, in_data: bytes | None, sudoable: bool = True, checkrc: bool = True) -> Any:
        """What core runs ssh by, for each command, and with retries around it."""
        asked = self._asked
        if asked is None:
            return core.Connection._bare_run(self, cmd, in_data, sudoable, checkrc)
        terminal = not in_data and sudoable and self.get_option("use_tty")
        answer = None
        try:
            answer = self.act(asked, in_data, sudoable, terminal)
        except fast.Stock as why:
            self.hosts("fell_back", str(why))
        except contextree.ConnectError as error:
            if error.phase != "boot":
                answer = 255, b"", (error.output or str(error)).encode()
        except contextree.ContextDied as error:
            answer = 255, b"", str(error).encode()
        if answer is None:  # out here, what it raises has no cause
            return core.Connection._bare_run(self, cmd, in_data, sudoable, checkrc)
        status, out, err = answer
        if terminal and getattr(self, "_persistent", False):
            err += b"Shared connection to %s closed.\r\n" % self.host.encode()
        return status, out, err

    def judged(self, words: list[Any]) -> Any:
        """See Becoming."""
        return core.Connection._bare_run(self, [*words, self.get_option("ssh_executable")], None, True, False)
