"""Stands in until the warm template is there: a fork of this process for each module."""

from . import runner

MISSING = runner.MISSING


class Template:
    def run(self, digest, data, task):
        return runner.run(digest, data, task)
