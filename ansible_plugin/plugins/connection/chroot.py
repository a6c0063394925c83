"""``contextree.fast.chroot``: a chroot, by one ``chroot`` for each."""

from typing import Any

from ansible_collections.contextree.fast.controller import ready

asking = ready.module("asking")
NAME = "community.general.chroot"
DOCUMENTATION = asking.documentation(NAME)
Mixin: Any = ready.mixin("contained", "Entered")
Base: Any = asking.collection(NAME)


class Connection(Mixin, Base):
    """As the collection's, but faster."""
