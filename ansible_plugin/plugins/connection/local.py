"""``contextree.fast.local``: as core's ``local``, with modules run in processes that are forked from a warm one."""

from typing import Any

from ansible.plugins.connection import local as core

from ansible_collections.contextree.fast.controller import ready

DOCUMENTATION = core.DOCUMENTATION.replace("name: local", "name: contextree.fast.local")
Mixin: Any = ready.mixin("local", "Local")


class Connection(Mixin, core.Connection):
    """As core's, but faster."""

    transport = "local"
