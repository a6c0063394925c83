"""``contextree.fast.kubectl``: pods, by one ``kubectl exec`` for each."""

from typing import Any

from ansible_collections.contextree.fast.controller import ready

asking = ready.module("asking")
NAME = "kubernetes.core.kubectl"
DOCUMENTATION = asking.documentation(NAME)
Mixin: Any = ready.mixin("contained", "Kubectl")
Base: Any = asking.collection(NAME)


class Connection(Mixin, Base):
    """As the collection's, but faster."""
