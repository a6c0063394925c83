#!/usr/bin/python
"""Breaks what a module's process may break."""
import os
import resource
import subprocess
import sys
import time

from ansible.module_utils.basic import AnsibleModule


def main():
    module = AnsibleModule(argument_spec={"how": {"type": "str"}, "size": {"type": "int"}})
    how = module.params["how"]
    if how == "hang":
        subprocess.Popen(["sleep", "600"])
        time.sleep(600)  # sleeps: it is a module that hangs
    elif how == "large":
        module.exit_json(changed=False, large="x" * module.params["size"])
    elif how == "daemon":  # one that leaves nothing open
        if os.fork() == 0:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for fd in 0, 1, 2:
                os.dup2(null, fd)
            os.execvp("sleep", ["sleep", "5"])
    elif how == "holder":  # one that keeps the outputs
        if os.fork() == 0:
            os.setsid()
            os.execvp("sleep", ["sleep", "2"])
    elif how == "close":
        print('{"changed": false, "closed": true}')
        sys.stdout.flush()
        os.closerange(0, 100)
        os._exit(0)
    elif how == "abort":
        os.abort()
    elif how == "memory":
        resource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20))
        b"x" * (1 << 30)
    module.exit_json(changed=False, how=how, cwd=os.getcwd())


main()
