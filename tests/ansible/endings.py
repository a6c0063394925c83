"""Playbooks that are brought to an end before they end by themselves, and what is left of them then."""

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.ansible import plays
from tests.ansible.cores import Core
from tests.ansible.lab import HERE, Lab
from tests.lab.poll import until

OF_STOCK = r"pymp-|ansible-local-"  # what ansible-playbook itself leaves when it is killed


class Run:
    """A playbook that runs, at a terminal of its own. Fields: ``process``, ``token``, ``marks`` (a folder, for files by
    which tasks tell that they have begun). As a context manager its end kills what there is left."""

    def __init__(self, lab: Lab, core: Core, text: str, mode: str, *, hosts: dict[str, dict[str, Any]] | None = None,
                 words: tuple[str, ...] = ("ansible-playbook",), args: tuple[str, ...] = (), defaults: str = "",
                 environ: dict[str, str] | None = None, forks: int = 5, clean: bool = True,
                 before: tuple[str, ...] = ("setsid", "-c"), name: str = "") -> None:
        if clean:
            lab.clean()
        self.lab, self.mode = lab, mode
        self.token = "CTXT_PLAY=" + secrets.token_hex(8)
        self.marks = lab.work
        lab.inventory(hosts, mode)
        self.rows, self.stats = lab.run / ("rows" + name), lab.run / ("stats" + name)
        config = lab.run / "ansible.cfg"
        config.write_text(plays.CONFIG.format(
            run=lab.run, here=HERE, forks=forks, defaults=defaults, ssh="", ssh_config=lab.ssh_config,
            strategy="contextree.fast.linear" if mode == "strategy" else "linear",
            transport="contextree.fast.ssh" if mode == "connection" else "ssh",
            pipelining="pipelining = true" if mode == "stock" else ""))
        env = {"PATH": "%s:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" % core.folder,
               "LC_ALL": "C.UTF-8", "HOME": str(lab.run / "home"), "TMPDIR": str(lab.run / "tmp"),
               "ANSIBLE_CONFIG": str(config), "ANSIBLE_HOME": str(lab.run / "home/.ansible"),
               "CTXT_COLLECT": str(self.rows), "PYTHONDONTWRITEBYTECODE": "1", "TERM": "dumb",
               "ANSIBLE_CONTEXTREE_STATS": str(self.stats), **dict([self.token.split("=")]), **(environ or {})}
        playbook = lab.run / ("playbook%s.yml" % name)
        playbook.write_text(text)
        given = {"work": str(lab.work), "local": "contextree.fast.local" if mode == "connection" else "local",
                 "local_tmp": str(lab.run / "home/.ansible/tmp")}
        if words[0] == "ansible-playbook":
            words = (*words, str(playbook), "-e", json.dumps(given))
        self.terminal, slave = os.openpty()
        self.out = lab.run / ("stdout" + name)
        with open(self.out, "w") as out:
            self.process = subprocess.Popen([*before, *words, *args], cwd=lab.run, env=env, stdin=slave, stdout=out,
                                            stderr=out)
        os.close(slave)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self.terminal)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for line in self.lab.left(self.token):
            found = re.match(r"process (\d+):", line)
            if found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(found[1]), signal.SIGKILL)

    def until_marked(self, *names: str, seconds: float = 40) -> None:
        """Wait until tasks have made these files in the folder ``marks``."""
        def there() -> bool:
            if self.process.poll() is not None:
                raise AssertionError("it has ended: " + self.out.read_text()[-2000:])
            return all((self.marks / name).exists() for name in names)

        until(there, "tasks to begin", seconds)

    def interrupt(self) -> None:
        """Press Ctrl-C at its terminal."""
        os.write(self.terminal, b"\x03")

    def end(self, seconds: float = 40) -> int:
        """Wait for its end; the status."""
        return self.process.wait(seconds)

    def left(self, seconds: float = 10, but: str = "nothing but this") -> list[str]:
        """What there still is of it after so many seconds at most."""
        if self.mode.startswith("stock"):
            plays._end_masters(self.lab)

        def lines() -> list[str]:
            return [line for line in self.lab.left(self.token) if not re.search(but, line)]

        with contextlib.suppress(AssertionError):
            until(lambda: not lines(), "everything to end", seconds, 0.05)
        return lines()

    def results(self) -> list[dict[str, Any]]:
        """What it told callbacks."""
        return [json.loads(line) for line in Path(self.rows).read_text().splitlines()] if self.rows.exists() else []
