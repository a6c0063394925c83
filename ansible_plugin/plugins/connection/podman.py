"""``contextree.fast.podman``: podman containers, by one ``podman exec`` for each."""

from typing import Any

from ansible_collections.contextree.fast.controller import ready

asking = ready.module("asking")
NAME = "containers.podman.podman"
DOCUMENTATION = asking.documentation(NAME)
Mixin: Any = ready.mixin("contained", "Podman")
Base: Any = asking.collection(NAME)


class Connection(Mixin, Base):
    """As the collection's, but faster."""
