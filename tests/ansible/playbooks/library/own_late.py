#!/usr/bin/python
"""Which edition of a module of core it gets."""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common import dict_transformations

module = AnsibleModule(argument_spec={})
module.exit_json(whose=getattr(dict_transformations, "WHOSE", "core's"))
