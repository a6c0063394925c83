"""``contextree.fast.local``: the controller itself, with modules run in processes that are forked from a warm one."""

from ansible.plugins.connection import local as core

from ansible_collections.contextree.fast.controller.fast import Fast

DOCUMENTATION = core.DOCUMENTATION.replace("name: local", "name: contextree.fast.local")


class Connection(Fast, core.Connection):
    """As core's ``local``, but faster."""

    transport = "local"
    has_pipelining = True

    def plan(self):
        from contextree.connect import local

        return local.plan("/usr/bin/python3")

    def exec_command(self, cmd, in_data=None, sudoable=True):
        if in_data and not (sudoable and self.become):
            found = self.module(in_data)
            if found is not None:
                return found
        return core.Connection.exec_command(self, cmd, in_data, sudoable)
