"""``contextree.fast.local``: as core's ``local``, with modules run in processes that are forked from a warm one."""

from typing import Any

from ansible.plugins.connection import local as core

from ansible_collections.contextree.fast.controller import ready

DOCUMENTATION = """
name: local
short_description: As the connection plugin C(local) of ansible-core, several times faster
description:
  - Modules run in processes that are forked from a warm Python.
  - Its options are those of P(ansible.builtin.local#connection) of the installed version.
author: contextree
extends_documentation_fragment:
  - connection_pipelining
  - contextree.fast.stock.local
"""
# ansible-doc reads the text above; options are read from this one.
DOCUMENTATION: str = core.DOCUMENTATION.replace("name: local", "name: contextree.fast.local")  # type: ignore[no-redef]
Mixin: Any = ready.mixin("local", "Local")


class Connection(Mixin, core.Connection):
    """As core's, but faster."""

    transport = "local"
