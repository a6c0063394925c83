"""A way to become somebody that nobody else knows: the command is run with a variable that tells of it."""

from ansible.plugins.become import BecomeBase

DOCUMENTATION = """
name: tell
short_description: tells
description: [tells]
author: [tests]
options:
  become_user:
    description: [whom]
    default: root
    vars: [{name: ansible_become_user}]
  become_exe:
    description: [by what]
    default: env
    vars: [{name: ansible_become_exe}]
  become_flags:
    description: [how]
    default: ""
    vars: [{name: ansible_become_flags}]
  become_pass:
    description: [word]
    vars: [{name: ansible_become_password}]
"""


class BecomeModule(BecomeBase):
    """See the top."""

    name = "own.test.tell"

    def build_become_command(self, cmd, shell):
        super().build_become_command(cmd, shell)
        return "env TOLD=yes " + self._build_success_command(cmd, shell) if cmd else cmd
