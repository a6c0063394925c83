"""The link that an ssh command of core is."""

import hashlib
import os
from typing import Any

from contextree.connect import discover
from contextree.connect import ssh as method
from contextree.connect.plan import PYTHON_QUOTED, Plan, checked_secret, safe_name
from contextree.connect.ssh_dialogue import SshDialogue

from .hosts import Link

#: Before all else, as ssh takes the first value that it is given.
OURS = ["-T", "-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "RemoteCommand=none"]
PASSED_ON = ("SSH_AUTH_SOCK", "SSH_AGENT_PID", "HOME", "PATH", "KRB5CCNAME")


def link(argv: list[str], host: str, user: str | None, password: Any, timeout: float) -> Link:
    """A link by the command ``argv``, which ends before the host's name."""
    host = str.__str__(host)  # without the tags of ansible-core 2.19
    env: dict[str, str | None] = {name: os.environ.get(name) for name in PASSED_ON}
    env["SSH_ASKPASS_REQUIRE"] = "never"
    words = [argv[0], *OURS, *argv[1:]]
    plan = Plan([*words, "--", host, PYTHON_QUOTED], safe_name("ssh." + host), "ssh", python=discover.WORDS, remote=True,
                classify=method.classify, env=env, phases=dict.fromkeys(("connect", "login", "boot"), timeout + 20))
    if password:
        secret = checked_secret(str(password), "password")
        plan = plan.copy(tty=True, probe=[*words, "-G", "--", host], dialogue=SshDialogue(
            user, host, None, True, {"password": secret, "passphrase": None, "otp": None}))
    text = repr((words, host, sorted(env.items()), password and str(password)))
    return Link("ssh." + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(), plan)
