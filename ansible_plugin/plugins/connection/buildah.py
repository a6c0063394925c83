"""``contextree.fast.buildah``: working containers of buildah, by one ``buildah run`` for each."""

from typing import Any

from ansible_collections.contextree.fast.controller import ready

asking = ready.module("asking")
NAME = "containers.podman.buildah"
DOCUMENTATION = asking.documentation(NAME)
Mixin: Any = ready.mixin("contained", "Buildah")
Base: Any = asking.collection(NAME)


class Connection(Mixin, Base):
    """As the collection's, but faster."""
