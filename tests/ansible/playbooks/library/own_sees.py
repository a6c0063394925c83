#!/usr/bin/python
"""What a module sees of its process: everything that an accelerator could let shine through."""

import json
import locale
import os
import resource
import signal
import socket
import sys
import threading

from ansible.module_utils.basic import AnsibleModule

ABOUT_RUN = ("SSH_CLIENT", "SSH_CONNECTION", "CTXT_PLAY", "XDG_SESSION_ID", "XDG_RUNTIME_DIR")


def main():
    module = AnsibleModule(argument_spec={"spoil": {"type": "bool", "default": False}})
    mask = os.umask(0)
    os.umask(mask)
    seen = {
        "name": __name__,
        "cwd": os.getcwd(),
        "umask": mask,
        "ids": [os.getuid(), os.geteuid(), os.getgid(), os.getegid(), sorted(os.getgroups())],
        "env": {key: text for key, text in os.environ.items() if key not in ABOUT_RUN},
        "argv": [os.path.basename(word) for word in sys.argv],
        "executable": sys.executable,
        "version": list(sys.version_info)[:3],
        "flags": str(sys.flags),
        "encodings": [sys.getfilesystemencoding(), sys.stdout.encoding, sys.stdin.encoding,
                      locale.getpreferredencoding(False), locale.setlocale(locale.LC_ALL)],
        "signals": {str(number): str(signal.getsignal(getattr(signal, number)))
                    for number in ("SIGINT", "SIGTERM", "SIGPIPE", "SIGCHLD", "SIGHUP", "SIGUSR1", "SIGALRM")},
        "blocked": sorted(int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "stdin": sys.stdin.read() if not sys.stdin.isatty() else "tty",
        "ttys": [os.isatty(number) for number in range(3)],
        "threads": threading.active_count(),
        "timeout": socket.getdefaulttimeout(),
        "nice": os.nice(0),
        "limits": {name: list(resource.getrlimit(getattr(resource, name)))
                   for name in ("RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_STACK", "RLIMIT_AS")},
        "recursion": sys.getrecursionlimit(),
        "main": sys.modules["__main__"].__dict__.get("main") is main,
        "tmpdir": os.path.basename(os.path.dirname(module.tmpdir)),
        "package": __package__,
        "spoiled": getattr(json, "spoiled", None) or getattr(AnsibleModule, "spoiled", None),
    }
    if module.params["spoil"]:  # nothing of it may be seen by the next
        os.environ["SPOILED"] = "yes"
        os.umask(0o077)
        os.chdir("/")
        json.spoiled = AnsibleModule.spoiled = "yes"
        socket.setdefaulttimeout(7)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.path.insert(0, "/spoiled")
        locale.setlocale(locale.LC_ALL, "C")
        os.nice(3)
    module.exit_json(changed=False, seen=seen)


if __name__ == "__main__":
    main()
