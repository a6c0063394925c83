#!/usr/bin/python
"""A module with module_utils of which core has something to say."""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.own.test.plugins.module_utils.fading import WHOSE

module = AnsibleModule(argument_spec={})
module.exit_json(whose=WHOSE)
