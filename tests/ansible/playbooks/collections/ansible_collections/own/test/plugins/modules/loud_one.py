#!/usr/bin/python
"""A module with module_utils of which Python has something to say."""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.own.test.plugins.module_utils.loud import TEXT

module = AnsibleModule(argument_spec={})
module.exit_json(text=TEXT, module="one")
