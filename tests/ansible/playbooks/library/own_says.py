#!/usr/bin/python
"""Says things, and ends in every way that a module may end."""

import json
import os
import signal
import sys
import threading

from ansible.module_utils.basic import AnsibleModule


def main():
    module = AnsibleModule(argument_spec={
        "warn": {"type": "list", "elements": "str", "default": []},
        "deprecate": {"type": "bool", "default": False},
        "named": {"type": "str", "aliases": ["old_name"],
                  "deprecated_aliases": [{"name": "old_name", "version": "9.9", "collection_name": "own.test"}]},
        "fading": {"type": "int", "removed_in_version": "9.9", "removed_from_collection": "own.test"},
        "password": {"type": "str", "no_log": True},
        "echo": {"type": "str"},
        "deep": {"type": "dict"},
        "how": {"type": "str"},
    }, supports_check_mode=True)
    for text in module.params["warn"]:
        module.warn(text)
    if module.params["deprecate"]:
        module.deprecate("an old habit", version="9.9", collection_name="own.test")
        module.deprecate("an older one", date="2030-01-01", collection_name="own.test")
    how = module.params["how"]
    if how == "fail":
        module.fail_json(msg="as asked", rc=9, extra=[1, {"two": None}], warnings=["one more"])
    elif how == "exit":
        sys.exit(11)
    elif how == "kill":
        sys.stdout.write("some output")
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "print":
        print("before { the result")
    elif how == "stderr":
        print("on stderr", file=sys.stderr)
    elif how == "bytes":
        sys.stdout.buffer.write(b'{"changed": false, "bytes": "\xff\xfe"}')
        sys.stdout.flush()
        os._exit(0)
    elif how == "nothing":
        os._exit(0)
    elif how == "late":
        import atexit

        atexit.register(lambda: print("after the result"))
    elif how == "thread":
        threading.Thread(target=lambda: threading.Event().wait(0.1)).start()
    elif how == "types":
        module.exit_json(changed=False, none=None, float=1.5, big=2 ** 70, empty=[{}, [], ""],
                         text="ü\u2028\U0001f600\x00",
                         keys={"1": 1, "true": True})
    elif how == "nested":
        tree = "leaf"
        for number in range(40):
            tree = {"n%d" % number: [tree]}
        module.exit_json(changed=False, tree=tree)
    elif how == "large":
        module.exit_json(changed=False, large="x" * 2000000)
    elif how == "import":
        import no_such_module_at_all  # noqa: F401
    elif how == "log":
        module.log("a line for syslog")
        module.debug("nothing")
    elif how == "respawn":
        from ansible.module_utils.common.respawn import has_respawned, respawn_module

        if not has_respawned():
            respawn_module(sys.executable)
        module.exit_json(changed=True, respawned=True)
    elif how == "run":
        answer = module.run_command(["sh", "-c", "echo out; echo err >&2; cat; exit 3"], data="fed\n", cwd="/",
                                    environ_update={"OWN": "1"})
        module.exit_json(changed=False, answer=list(answer), which=module.get_bin_path("sh"))
    elif how == "tmp":
        module.exit_json(changed=False, made=os.path.isdir(module.tmpdir), mode=oct(os.stat(module.tmpdir).st_mode))
    module.exit_json(changed=False, params={key: module.params[key] for key in ("echo", "deep", "named", "fading")})


if __name__ == "__main__":
    main()
    json.dumps({})
