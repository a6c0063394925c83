"""A way to a host that nobody else knows: commands and files of the controller, with a word said."""

import shutil
import subprocess

from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: odd
short_description: runs commands here
description: [runs commands here]
author: [tests]
options: {}
"""


class Connection(ConnectionBase):
    """See the top."""

    transport = "own.test.odd"
    has_pipelining = False

    def _connect(self):
        self._connected = True
        return self

    def exec_command(self, cmd, in_data=None, sudoable=True):
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        done = subprocess.run(cmd, shell=True, input=in_data, capture_output=True)
        return done.returncode, done.stdout, done.stderr

    def put_file(self, in_path, out_path):
        shutil.copy(in_path, out_path)

    def fetch_file(self, in_path, out_path):
        shutil.copy(in_path, out_path)

    def close(self):
        self._connected = False
