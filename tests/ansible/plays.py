"""Running a playbook in one of the modes, and all that there is to compare afterwards."""

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ansible.cores import Core
from tests.ansible.lab import HERE, PLAYBOOKS, Lab
from tests.lab.poll import until

# stock: as ansible-core does it; connection: ours under core's own strategy, named in inventory and configuration;
# strategy: our strategy with an inventory that knows nothing of us
MODES = ("stock", "connection", "strategy")
CONFIG = """\
[defaults]
inventory = {run}/inventory.json
callback_plugins = {here}/plugins/callback
callbacks_enabled = collect
library = {run}/library
strategy = {strategy}
transport = {transport}
forks = {forks}
timeout = 20
nocows = true
nocolor = true
{defaults}
[connection]
{pipelining}
[ssh_connection]
ssh_args = -F {ssh_config} -o ControlMaster=auto -o ControlPersist=60s
{pipelining}
{ssh}
"""


@dataclass
class Outcome:
    """What one run did."""

    mode: str
    status: int
    rows: list[dict[str, Any]]
    recap: dict[str, Any]
    custom: Any
    stdout: str
    stderr: str
    made: dict[str, list[str]]
    left: list[str]
    stats: dict[str, Any] | None

    def by_host(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of each host, in the order in which they came."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows:
            found.setdefault(row["host"], []).append(row)
        return found


def play(lab: Lab, core: Core, playbook: str, mode: str, *, hosts: dict[str, dict[str, Any]] | None = None,
         args: tuple[str, ...] = (), variables: dict[str, Any] | None = None, environ: dict[str, str] | None = None,
         pipelining: bool = True, defaults: str = "", ssh: str = "", forks: int = 5, strategy: str = "linear",
         masters: bool = False, typed: str = "", timeout: float = 100) -> Outcome:
    """Run ``playbook`` (a file in playbooks/). ``defaults``, ``ssh``: lines for these sections of ansible.cfg.
    ``masters``: ours leaves some things to stock ssh, and so masters of its connections. ``typed``: its standard input.

    The run has ended when this returns, and what it left behind has had some seconds to go away by itself."""
    lab.clean()
    token = "CTXT_PLAY=" + secrets.token_hex(8)
    lab.inventory(hosts, mode)
    config = lab.run / "ansible.cfg"
    config.write_text(CONFIG.format(
        run=lab.run, here=HERE, forks=forks, defaults=defaults, ssh=ssh, ssh_config=lab.ssh_config,
        strategy="contextree.fast." + strategy if mode == "strategy" else strategy,
        transport="contextree.fast.ssh" if mode == "connection" else "ssh",
        pipelining="pipelining = true" if pipelining else ""))
    library = lab.run / "library"
    library.mkdir()
    shutil.copy("/bin/cat", library / "own_binary")  # a module that is no text: answers with the file that it is given
    rows, stats = lab.run / "rows", lab.run / "stats"
    env = {"PATH": "%s:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" % core.folder, "LC_ALL": "C.UTF-8",
           "HOME": str(lab.run / "home"), "TMPDIR": str(lab.run / "tmp"), "ANSIBLE_CONFIG": str(config),
           "ANSIBLE_HOME": str(lab.run / "home/.ansible"), "CTXT_COLLECT": str(rows), "PYTHONDONTWRITEBYTECODE": "1",
           "ANSIBLE_CONTEXTREE_STATS": str(stats), **dict([token.split("=")]), **(environ or {})}
    given = {"work": str(lab.work), "local": "contextree.fast.local" if mode == "connection" else "local",
             "far_user": lab.sshd.key_user, "local_tmp": str(lab.run / "home/.ansible/tmp"),
             **lab.materials(), **(variables or {})}
    # signals that are ignored here, as below nohup, are not there
    words = ["env", "--default-signal=INT,QUIT,HUP", "ansible-playbook", str(PLAYBOOKS / playbook), "-e",
             json.dumps(given), *args]
    process = subprocess.Popen(words, cwd=lab.run, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, errors="surrogateescape", start_new_session=True)
    try:
        out, err = process.communicate(typed, timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        err += "\nthe playbook took longer than %d s" % timeout
    if mode != "stock":
        with contextlib.suppress(AssertionError):
            until(stats.exists, "the multiplexer to end", 10, 0.05)
    found = json.loads(stats.read_text()) if stats.exists() else None
    if mode == "stock" or masters or (found and found["fallbacks"]):  # core's own ssh was at work
        _end_masters(lab)
    left: list[str] = []
    with contextlib.suppress(AssertionError):
        until(lambda: not lab.left(token), "everything to end", 10, 0.05)
    left = lab.left(token)
    _kill(left)
    lines = [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []
    special = {line["event"]: line for line in lines if "host" not in line}
    return Outcome(mode, process.returncode, [line for line in lines if "host" in line],
                   special.get("recap", {}).get("hosts", {}), special.get("end", {}).get("custom"), out, err,
                   lab.made(), left, found)


def _end_masters(lab: Lab) -> None:
    """Stock ssh leaves its masters for a minute: they are asked to go."""
    for path in Path(lab.run, "home/.ansible/cp").glob("*"):
        subprocess.run(["ssh", "-F", str(lab.ssh_config), "-o", "ControlPath=%s" % path, "-O", "exit", "any"],
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _kill(left: list[str]) -> None:
    for line in left:
        found = re.match(r"process (\d+):", line)
        if found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(found[1]), signal.SIGKILL)
