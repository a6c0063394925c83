"""``contextree.fast.ssh``: one link for each host and run."""

import os

from ansible.plugins.connection import ssh as core
from ansible_collections.contextree.fast.controller.fast import Fast
from contextree.connect import discover
from contextree.connect import ssh as method
from contextree.connect.plan import PYTHON_QUOTED, Plan

DOCUMENTATION = core.DOCUMENTATION.replace("name: ssh", "name: contextree.fast.ssh")


class Connection(Fast, core.Connection):
    """As core's ``ssh``, but faster."""

    transport = "ssh"

    def plan(self):
        argv = [word.decode() for word in self._build_command("ssh", "ssh", self.host)]
        at = argv.index(self.host, len(argv) - 1)
        return Plan([*argv[:at], "-T", "-o", "ControlMaster=no", "-o", "ControlPath=none", "--", self.host, PYTHON_QUOTED],
                    "ssh." + self.host, "ssh", python=discover.WORDS, remote=True, classify=method.classify)

    def exec_command(self, cmd, in_data=None, sudoable=True):
        self.host = self.get_option("host") or self._play_context.remote_addr
        if in_data and not (sudoable and self.become):
            found = self.module(in_data)
            if found is not None:
                return found
        if sudoable and self.become:
            return core.Connection.exec_command(self, cmd, in_data, sudoable)
        return self.ask("command", ["sh", "-c", cmd], in_data)

    def put_file(self, in_path, out_path):
        self.host = self.get_option("host") or self._play_context.remote_addr
        self.ask("put", os.path.abspath(in_path), out_path)

    def fetch_file(self, in_path, out_path):
        self.host = self.get_option("host") or self._play_context.remote_addr
        self.ask("get", in_path, os.path.abspath(out_path))
