#!/usr/bin/python
"""Stands before the module of the same name that core brings."""

from ansible.module_utils.basic import AnsibleModule

AnsibleModule(argument_spec={}).exit_json(whose="the playbook's")
