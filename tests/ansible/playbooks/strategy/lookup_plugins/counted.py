"""Tells how often it has run in its process, and may spoil that."""

import os

from ansible.plugins.lookup import LookupBase

count = 0


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        global count
        count += 1
        if terms:
            os.environ["SPOILT"] = "yes"
            os.chdir("/")
            os.umask(0)
        return [count]
