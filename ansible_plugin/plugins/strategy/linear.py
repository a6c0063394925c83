"""``contextree.fast.linear``: as core's ``linear``, over links that last for the run."""

from ansible.plugins.strategy import linear as core
from ansible_collections.contextree.fast.controller.strategy import Mixin

DOCUMENTATION = core.DOCUMENTATION.replace("name: linear", "name: contextree.fast.linear")


class StrategyModule(Mixin, core.StrategyModule):
    """As core's, but faster."""
