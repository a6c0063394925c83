#!/usr/bin/python
"""A role's module, whose role brings a module of core in its own edition."""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common import network

module = AnsibleModule(argument_spec={})
module.exit_json(network=getattr(network, "WHOSE", "core's"))
