"""``contextree.fast.free``: as core's ``free``, over links that last for the run."""

from ansible.plugins.strategy import free as core
from ansible_collections.contextree.fast.controller.strategy import Mixin

DOCUMENTATION = core.DOCUMENTATION.replace("name: free", "name: contextree.fast.free")


class StrategyModule(Mixin, core.StrategyModule):
    """As core's, but faster."""
