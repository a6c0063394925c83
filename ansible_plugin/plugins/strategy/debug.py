"""``contextree.fast.debug``: as core's ``debug``, over links that last for the run."""

from ansible.plugins.strategy import debug as core
from ansible_collections.contextree.fast.controller.strategy import Mixin

DOCUMENTATION = core.DOCUMENTATION.replace("name: debug", "name: contextree.fast.debug")


class StrategyModule(Mixin, core.StrategyModule):
    """As core's, but faster."""
