"""``contextree.fast.free``: as core's ``free``, over links that last for the run."""

from typing import Any

from ansible.plugins.strategy import free as core

from ansible_collections.contextree.fast.controller import ready

DOCUMENTATION = """
name: free
short_description: As the strategy C(free) of ansible-core, several times faster
description:
  - Runs tasks in the same order and with the same results as P(ansible.builtin.free#strategy).
  - Hosts that are reached by C(ssh), C(local), C(community.docker.docker) and others are reached by the connection
    plugins of this collection instead, which keep one link to each host for the whole run.
author: contextree
"""
Mixin: Any = ready.mixin("strategy", "Mixin")


class StrategyModule(Mixin, core.StrategyModule):
    """As core's, but faster."""
