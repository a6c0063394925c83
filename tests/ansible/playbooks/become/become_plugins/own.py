"""A become plugin that nobody knows: env, then runuser."""

from ansible.plugins.become import BecomeBase

DOCUMENTATION = """
name: own
short_description: by env and runuser
description: For tests.
options:
  become_user: {description: who, default: root, vars: [{name: ansible_become_user}], keyword: [{name: become_user}]}
  become_exe: {description: what, default: env, vars: [{name: ansible_become_exe}], keyword: [{name: become_exe}]}
  become_flags: {description: how, default: "", vars: [{name: ansible_become_flags}], keyword: [{name: become_flags}]}
  become_pass: {description: none, required: false, vars: [{name: ansible_become_password}]}
"""


class BecomeModule(BecomeBase):
    """See the top of the file."""

    name = "own"

    def build_become_command(self, cmd, shell):
        super().build_become_command(cmd, shell)
        if not cmd:
            return cmd
        return "%s %s runuser -u %s -- %s" % (
            self.get_option("become_exe"), self.get_option("become_flags"), self.get_option("become_user"),
            self._build_success_command(cmd, shell))
