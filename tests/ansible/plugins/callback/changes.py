"""Changes the environment of the main process with each play, as those do that fetch credentials."""

import os

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: changes
type: aggregate
short_description: another environment for each play
description: $CTXT_CHANGED is the name of the play, and $CTXT_GONE goes away.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "changes"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_play_start(self, play):
        os.environ["CTXT_CHANGED"] = play.get_name()
        if play.get_name() == "second":
            os.environ.pop("CTXT_GONE", None)
