#!/usr/bin/python
# Its arguments are written into it.
import json

given = json.loads("""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>""")
print(json.dumps({"changed": False, "kind": "jsonargs", "text": given.get("text"),
                  "check": given["_ansible_check_mode"]}))
