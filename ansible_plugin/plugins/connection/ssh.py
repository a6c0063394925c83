"""``contextree.fast.ssh``: as core's ``ssh``, over one link to each host that lasts for the run."""

from typing import Any

from ansible.plugins.connection import ssh as core

from ansible_collections.contextree.fast.controller import ready

DOCUMENTATION = core.DOCUMENTATION.replace("name: ssh", "name: contextree.fast.ssh")
Mixin: Any = ready.mixin("ssh", "Ssh")


class Connection(Mixin, core.Connection):
    """As core's, but faster."""

    transport = "ssh"
