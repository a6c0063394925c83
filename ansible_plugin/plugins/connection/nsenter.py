"""``contextree.fast.nsenter``: the host of a container, by one ``nsenter``."""

from typing import Any

from ansible_collections.contextree.fast.controller import ready

asking = ready.module("asking")
NAME = "community.docker.nsenter"
DOCUMENTATION = asking.documentation(NAME)
Mixin: Any = ready.mixin("contained", "Nsenter")
Base: Any = asking.collection(NAME)


class Connection(Mixin, Base):
    """As the collection's, but faster."""
