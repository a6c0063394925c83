"""``contextree.fast.lxd``: instances of LXD, by one ``lxc exec`` for each."""

from typing import Any

from ansible_collections.contextree.fast.controller import ready

asking = ready.module("asking")
NAME = "community.general.lxd"
DOCUMENTATION = asking.documentation(NAME)
Mixin: Any = ready.mixin("contained", "Instance")
Base: Any = asking.collection(NAME)


class Connection(Mixin, Base):
    """As the collection's, but faster."""
