"""``contextree.fast.local``: the controller itself, with modules run in processes that are forked from a warm one."""

from typing import Any

from ansible.plugins.connection import local as core
from ansible_collections.contextree.fast.controller import fast
from ansible_collections.contextree.fast.controller.local import link

DOCUMENTATION = core.DOCUMENTATION.replace("name: local", "name: contextree.fast.local")


class Connection(fast.Fast, core.Connection):
    """As core's ``local``, but faster."""

    transport = "local"

    def link(self):
        return link()

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> Any:
        try:
            answer = self.at_once(cmd, sudoable)
            if answer is None and in_data:
                answer = self.act(cmd, in_data, sudoable, False)
        except fast.Stock as why:
            self.hosts("fell_back", str(why))
            answer = None
        if answer is None:
            self.settle()
            answer = core.Connection.exec_command(self, cmd, in_data, sudoable)
        return answer

    def fetch_file(self, in_path: str, out_path: str) -> Any:
        self.settle()
        return core.Connection.put_file(self, in_path, out_path)
