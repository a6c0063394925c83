"""``contextree.fast.ssh``: as core's ``ssh``, over one link to each host that lasts for the run."""

from typing import Any

from ansible.plugins.connection import ssh as core

from ansible_collections.contextree.fast.controller import ready

DOCUMENTATION = """
name: ssh
short_description: As the connection plugin C(ssh) of ansible-core, several times faster
description:
  - Commands and files go over one link to each host, which is opened by C(ssh) for the first of them and lasts for
    the run.
  - Its options are those of P(ansible.builtin.ssh#connection) of the installed version.
author: contextree
extends_documentation_fragment:
  - connection_pipelining
  - contextree.fast.stock.ssh
"""
# ansible-doc reads the text above; options are read from this one.
DOCUMENTATION: str = core.DOCUMENTATION.replace("name: ssh", "name: contextree.fast.ssh")  # type: ignore[no-redef]
Mixin: Any = ready.mixin("ssh", "Ssh")


class Connection(Mixin, core.Connection):
    """As core's, but faster."""

    transport = "ssh"
