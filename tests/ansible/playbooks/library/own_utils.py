#!/usr/bin/python
"""Which module_utils a module gets."""

from ansible.module_utils import own_adjacent
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common import network
from ansible.module_utils.own_package import answer, deeper

module = AnsibleModule(argument_spec={})
module.exit_json(adjacent=own_adjacent.WHOSE, network=getattr(network, "WHOSE", "core's"),
                 package=[answer(), deeper.WHOSE], count=own_adjacent.count())
