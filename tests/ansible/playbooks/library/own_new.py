#!/usr/bin/python
"""A new-style module: answers with its arguments, as it got them."""

from ansible.module_utils.basic import AnsibleModule


def main():
    module = AnsibleModule(
        argument_spec={
            "text": {"type": "str", "default": "none"},
            "number": {"type": "int"},
            "flag": {"type": "bool", "default": False, "aliases": ["banner"]},
            "items": {"type": "list", "elements": "str"},
            "tree": {"type": "dict"},
            "path": {"type": "path"},
            "raw": {"type": "raw"},
            "password": {"type": "str", "no_log": True},
            "change": {"type": "bool", "default": False},
            "fail": {"type": "str"},
        },
        supports_check_mode=True,
    )
    if module.params["fail"] == "raise":
        raise RuntimeError("raised by the module")
    if module.params["fail"]:
        module.fail_json(msg=module.params["fail"], given=module.params["text"])
    module.exit_json(changed=module.params["change"], params=module.params, check=module.check_mode,
                     diff={"before": "was\n", "after": module.params["text"] + "\n"} if module._diff else {})


if __name__ == "__main__":
    main()
