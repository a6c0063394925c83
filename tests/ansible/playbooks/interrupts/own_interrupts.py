"""Sends SIGINT to the process that forks core's worker number WHICH, in one of Python's hooks around that fork: what a
handler raises there is thrown away."""

import os
import signal
import sys

from ansible.plugins.callback import CallbackBase

WHEN, WHICH = os.environ.get("CTXT_INTERRUPT", "before:0").split(":")


class CallbackModule(CallbackBase):
    """Only what core wants of one."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "own_interrupts"

    def v2_playbook_on_start(self, playbook):
        """See core."""
        self.forks = 0
        os.register_at_fork(**{WHEN: self.hook})

    def hook(self):
        """Around each fork."""
        frame = sys._getframe()
        while frame is not None and frame.f_code.co_filename.rpartition("/")[2] != "popen_fork.py":
            frame = frame.f_back
        self.forks += frame is not None
        if frame is not None and self.forks == int(WHICH):
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):
                pass  # the handler of Python runs in here
