#!/usr/bin/python
"""Gives a fact, and the same text in other places."""

from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule(argument_spec={"text": {"type": "str", "default": "own"}, "gather_subset": {"type": "raw"}},
                       supports_check_mode=True)
text = module.params["text"]
module.exit_json(ansible_facts={"own_fact_text": text}, text=text, list=[text])
