"""``contextree.fast.linear``: as core's ``linear``, over links that last for the run."""

from typing import Any

from ansible.plugins.strategy import linear as core

from ansible_collections.contextree.fast.controller import ready

DOCUMENTATION = """
name: linear
short_description: As the strategy C(linear) of ansible-core, several times faster
description:
  - Runs tasks in the same order and with the same results as P(ansible.builtin.linear#strategy).
  - Hosts that are reached by C(ssh), C(local), C(community.docker.docker) and others are reached by the connection
    plugins of this collection instead, which keep one link to each host for the whole run.
author: contextree
"""
Mixin: Any = ready.mixin("strategy", "Mixin")


class StrategyModule(Mixin, core.StrategyModule):
    """As core's, but faster."""
