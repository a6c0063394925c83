"""``contextree.fast.host_pinned``: as core's ``host_pinned``, over links that last for the run."""

from ansible.plugins.strategy import host_pinned as core
from ansible_collections.contextree.fast.controller.strategy import Mixin

DOCUMENTATION = core.DOCUMENTATION.replace("name: host_pinned", "name: contextree.fast.host_pinned")


class StrategyModule(Mixin, core.StrategyModule):
    """As core's, but faster."""
