"""``contextree.fast.oc``: pods of OpenShift, by one ``oc exec`` for each."""

from typing import Any

from ansible_collections.contextree.fast.controller import ready

asking = ready.module("asking")
NAME = "community.okd.oc"
DOCUMENTATION = asking.documentation(NAME)
Mixin: Any = ready.mixin("contained", "Kubectl")
Base: Any = asking.collection(NAME)


class Connection(Mixin, Base):
    """As the collection's, but faster."""
