"""``contextree.fast.ssh``: one link for each host and run.

All that core's connection does stays core's: it puts the command line together, retries, and says what is wrong. In place
of running ssh for each command it comes here, where the command goes over the link that was opened by the first."""

from typing import Any

import contextree
from ansible.plugins.connection import ssh as core
from ansible_collections.contextree.fast.controller import fast
from ansible_collections.contextree.fast.controller.ssh import link

DOCUMENTATION = core.DOCUMENTATION.replace("name: ssh", "name: contextree.fast.ssh")


class Connection(fast.Fast, core.Connection):
    """As core's ``ssh``, but faster."""

    transport = "ssh"
    _asked = None  # what core is to run

    def link(self):
        self.host = self.get_option("host") or self._play_context.remote_addr
        words = [word.decode("utf-8", "surrogateescape") for word in self._build_command(
            self.get_option("ssh_executable"), "ssh")]
        words = words[words.index(self.get_option("ssh_executable")):]  # without sshpass
        if getattr(self._shell, "_IS_WINDOWS", False):
            raise fast.Stock("Windows")
        if self._is_tty_requested():
            raise fast.Stock("ssh is told to ask for a terminal")
        return link(words, self.host, self.get_option("remote_user"),
                    self.get_option("password") or self._play_context.password, float(self.get_option("timeout")))

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> Any:
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
        try:
            status, out, err = self.act(asked, in_data, sudoable, terminal)
        except fast.Stock as why:
            self.hosts("fell_back", str(why))
            return core.Connection._bare_run(self, cmd, in_data, sudoable, checkrc)
        except contextree.ConnectError as error:
            if error.phase == "boot":
                return core.Connection._bare_run(self, cmd, in_data, sudoable, checkrc)
            return 255, b"", (error.output or str(error)).encode()
        except contextree.ContextDied as error:
            return 255, b"", str(error).encode()
        if terminal and getattr(self, "_persistent", False):
            err += b"Shared connection to %s closed.\r\n" % self.host.encode()
        return status, out, err
