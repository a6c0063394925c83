#!/usr/bin/python
# Python of the oldest kind: it knows nothing of module_utils and reads the file that it is given, with key=value words.
import json
import shlex
import sys

with open(sys.argv[1]) as file:
    words = dict(word.split("=", 1) for word in shlex.split(file.read()) if "=" in word)
words = {key: word for key, word in words.items() if not key.startswith("_")}
print(json.dumps({"changed": False, "kind": "old", "words": words}))
