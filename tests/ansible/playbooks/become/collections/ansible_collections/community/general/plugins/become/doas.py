"""Stands in for the plugin of community.general: the same command, options and messages."""

import re

from ansible.module_utils.common.text.converters import to_bytes
from ansible.plugins.become import BecomeBase

DOCUMENTATION = """
name: doas
short_description: by doas
description: For tests.
options:
  become_user: {description: who, vars: [{name: ansible_become_user}], keyword: [{name: become_user}]}
  become_exe: {description: what, default: doas, vars: [{name: ansible_become_exe}], keyword: [{name: become_exe}]}
  become_flags: {description: how, default: "", vars: [{name: ansible_become_flags}], keyword: [{name: become_flags}]}
  become_pass: {description: password, vars: [{name: ansible_become_password}]}
  prompt_l10n: {description: prompts, type: list, elements: str, default: [], vars: [{name: ansible_doas_prompt_l10n}]}
"""


class BecomeModule(BecomeBase):
    """See the top of the file."""

    name = "community.general.doas"
    fail = ("Permission denied",)
    missing = ("Authorization required",)
    pipelining = False

    def check_password_prompt(self, b_output):
        prompts = [to_bytes(each) for each in self.get_option("prompt_l10n")] or [rb"doas \(", rb"Password:"]
        return bool(re.match(b"|".join(prompts), b_output))

    def build_become_command(self, cmd, shell):
        super().build_become_command(cmd, shell)
        if not cmd:
            return cmd
        self.prompt = True
        flags = self.get_option("become_flags")
        if not self.get_option("become_pass") and "-n" not in flags:
            flags += " -n"
        user = self.get_option("become_user")
        return "%s %s %s %s -c %s" % (
            self.get_option("become_exe"), flags, "-u " + user if user else "", getattr(shell, "executable", "sh"),
            self._build_success_command(cmd, shell, noexe=True))
