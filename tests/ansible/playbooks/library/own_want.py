#!/usr/bin/python
# It wants a file with JSON, and says so: WANT_JSON
import json
import sys

with open(sys.argv[1]) as file:
    given = json.load(file)
print(json.dumps({"changed": True, "kind": "want", "given": {k: v for k, v in given.items() if k[0] != "_"},
                  "private": sorted(k for k in given if k[0] == "_")}))
