"""``contextree.fast.docker``: docker containers, by one ``docker exec`` for each."""

from typing import Any

from ansible_collections.contextree.fast.controller import ready

asking = ready.module("asking")
NAME = "community.docker.docker"
DOCUMENTATION = asking.documentation(NAME)
Mixin: Any = ready.mixin("contained", "Docker")
Base: Any = asking.collection(NAME)


class Connection(Mixin, Base):
    """As the collection's, but faster."""
