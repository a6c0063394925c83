"""Tells how often it has run in its process."""

from ansible.plugins.action import ActionBase

count = 0


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        global count
        count += 1
        return dict(super().run(tmp, task_vars), count=count)
