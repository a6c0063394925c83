"""The link to the controller itself."""

import sys

from contextree.connect import local

from .hosts import Link


def link() -> Link:
    """The same for all."""
    return Link("local", local.plan(sys.executable, name="local"))
