#!/usr/bin/python
"""A module of a collection with module_utils of the collection, by every kind of import."""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.own.test.plugins.module_utils import neighbour
from ansible_collections.own.test.plugins.module_utils.former import WHOSE as FORMER

from ..module_utils.sub.current import WHOSE

DOCUMENTATION = """
module: hello
short_description: says hello
description: [says hello]
options:
  name:
    description: [whom]
    type: str
author: [tests]
"""


def main():
    module = AnsibleModule(argument_spec={"name": {"type": "str", "default": "world"}})
    module.exit_json(hello=module.params["name"], whose=[WHOSE, FORMER, neighbour.WHERE], where=__name__)


if __name__ == "__main__":
    main()
