"""Payloads as an installed ansible-core makes them; run by the Python that has it, with a JSON list of [path of the
module's file or its name, its arguments, variables] on standard input. Prints a JSON list of [the text in base64, what
``controller.payload`` sees in it: the archive's digest, the archive in base64, and the task]."""

import base64
import json
import os
import sys

from ansible.executor import module_common
from ansible.module_utils.common.parameters import PASS_VARS
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader, module_loader
from ansible.release import __version__
from ansible.template import Templar

from ansible_plugin.controller import payload

INTERNAL = {
    "check_mode": False, "no_log": False, "debug": False, "diff": False, "verbosity": 0, "version": __version__,
    "syslog_facility": "LOG_USER", "selinux_special_fs": ["fuse", "nfs"], "string_conversion_action": "warn",
    "socket": None, "shell_executable": "/bin/sh", "keep_remote_files": False, "tmpdir": None,
    "remote_tmp": "~/.ansible/tmp", "ignore_unknown_opts": False, "target_log_info": None, "tracebacks_for": [],
}


def build(name, arguments, variables):
    """The payload of a module."""
    path = name if "/" in name else module_loader.find_plugin(name, ".py")
    name = os.path.basename(path)[:-3]
    whole = {"_ansible_" + key: value for key, value in INTERNAL.items() if key in PASS_VARS}
    whole.update({"_ansible_module_name": name}, **arguments)
    built = module_common.modify_module(
        module_name=name, module_path=path, module_args=whole, templar=Templar(DataLoader()),
        task_vars={"ansible_python_interpreter": "/usr/bin/python3", "ansible_facts": {}, **variables},
        module_compression="ZIP_DEFLATED")
    return built[0] if isinstance(built, tuple) else built.b_module_data


def seen(text):
    """What our connection makes of it."""
    found = payload.take_apart(text)
    if found is None:
        return None
    task = dict(found.task, params=found.task["params"].decode())
    return [found.digest, base64.b64encode(found.zip_data()).decode(), task]


if __name__ == "__main__":
    init_plugin_loader([])
    texts = [build(*each) for each in json.load(sys.stdin)]
    json.dump([[base64.b64encode(text).decode(), seen(text)] for text in texts], sys.stdout)
