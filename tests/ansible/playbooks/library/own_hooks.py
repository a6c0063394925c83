#!/usr/bin/python
"""Raises, with its own way to tell of that: as modules of core have had it."""

import sys

from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule(argument_spec={"how": {"type": "str"}})


def hook(kind, error, traceback):
    if module.params["how"] == "answers":
        module.fail_json(msg="told by the hook: %s" % error)
    if module.params["how"] == "leaves":
        print('{"changed": true, "left": "with success"}')
        sys.exit(0)
    raise ValueError("raised by the hook")


sys.excepthook = hook
raise KeyError("raised")
