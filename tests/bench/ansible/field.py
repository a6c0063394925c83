"""The hosts and the controller: a private sshd behind the proxy, two accounts of processor time, folders."""

import contextlib
import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

from tests.bench.ansible import sides
from tests.bench.ansible.accounting import Group
from tests.lab.poll import until
from tests.lab.sshd import Sshd

CONFIG = {
    "defaults": {
        "inventory": "hosts.json", "host_key_checking": "False", "gathering": "explicit", "nocolor": "True",
        "deprecation_warnings": "False", "interpreter_python": "/usr/bin/python3", "stdout_callback": "default",
        "timeout": "60",
    },
    "ssh_connection": {},
}  # fmt: skip


class Field:
    """``most``: how many hosts there are at most. ``venv``: the virtual environment whose Ansible runs. A context
    manager; nothing of it stays. Raises CannotStart (no sshd), CannotAccount (no control groups)."""

    def __init__(self, venv, most):
        self.bin = Path(venv) / "bin"
        self.names = {"h%02d" % number: "127.0.0.%d" % (number + 1) for number in range(1, most + 1)}
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        with self.stack:
            self.controller, self.target = Group("controller"), Group("target")
            self.stack.callback(self.controller.close)
            self.server = Sshd.up()
            self.stack.callback(self.server.down)
            self.stack.callback(self.target.close)  # before the accounts go
            for daemon in self.server.daemons.values():
                self.target.add(daemon["process"][0])
            self.daemons = set(self.target.members())
            self.account = pwd.getpwnam(self.server.key_user)
            self.allow_sudo()
            self.folder = Path(self.server.directory, "bench")
            self.folder.mkdir()
            self.collections = sides.collections(self.folder / "here")
            self.start_proxy()
            self.where, self.version = self.python(
                "import ansible, os; from ansible.release import __version__;"
                "print(os.path.dirname(os.path.dirname(ansible.__file__))); print(__version__)"
            ).split()
            self.stack = self.stack.pop_all()
        return self

    def __exit__(self, *exc_info):
        self.stack.close()

    def python(self, program):
        """What a program of Ansible's Python prints."""
        return subprocess.run([self.bin / "python", "-c", program], check=True, capture_output=True, text=True).stdout

    def allow_sudo(self):
        """The account may do everything, without a password. The file goes when the server does."""
        path = Path("/etc/sudoers.d", self.account.pw_name)
        self.server.files = [str(path)]
        self.server._save(Path(self.server.directory, "state.json"))
        draft = Path(self.server.directory, "sudoers")
        draft.write_text("%s ALL=(ALL) NOPASSWD: ALL\n" % self.account.pw_name)
        draft.chmod(0o440)
        shutil.move(draft, path)

    def start_proxy(self):
        """Have it listen for all hosts."""
        words = [sys.executable, "-m", "tests.bench.ansible.proxy", self.server.port, *self.names.values()]
        self.proxy = subprocess.Popen(
            list(map(str, words)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=sides.ROOT
        )
        self.stack.callback(self.stop_proxy)
        self.ports = dict(zip(self.names, json.loads(self.proxy.stdout.readline()), strict=True))

    def stop_proxy(self):
        """End it."""
        self.proxy.stdin.close()
        self.proxy.wait()
        self.proxy.stdout.close()

    def ask_proxy(self, line):
        """Its counts."""
        self.proxy.stdin.write(line + "\n")
        self.proxy.stdin.flush()
        return json.loads(self.proxy.stdout.readline())

    # ------------------------------------------------------------------------------------------------ one run
    @contextlib.contextmanager
    def prepared(self, side, case, hosts):
        """(folder to run in, words, environment) for one run; the hosts' folders are as the case wants them."""
        base = self.folder / "run"
        base.mkdir()
        try:
            names = list(self.names)[:hosts]
            for name in names:
                self.make_folder(name, case.before)
            case.write(base)
            (base / "hosts.json").write_text(json.dumps(self.inventory(names)))
            (base / "ansible.cfg").write_text(self.config(side, hosts, base))
            (base / "home").mkdir()
            env = {"PATH": "%s:/usr/local/bin:/usr/bin:/bin" % self.bin, "LANG": "C.UTF-8", "HOME": str(base / "home"),
                   "ANSIBLE_CONFIG": str(base / "ansible.cfg"), "TMPDIR": str(base),
                   **sides.environment(side, self.collections, base)}  # fmt: skip
            words = ["ansible", *case.adhoc] if case.adhoc else ["ansible-playbook", "play.yml"]
            yield base, [self.bin / words[0], *words[1:]], env
        finally:
            shutil.rmtree(base)
            shutil.rmtree(self.files_of(""), ignore_errors=True)

    def files_of(self, name):
        """The folder of a host whose files count."""
        return Path(self.account.pw_dir, "work", name)

    def make_folder(self, name, files):
        """An empty one for a host, or with these."""
        folder = self.files_of(name)
        folder.mkdir(parents=True)
        for path in (*(folder / file for file in files), folder):
            if path is not folder:
                path.write_text(files[path.name])
                path.chmod(0o644)
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def inventory(self, names):
        """All hosts, each with its folder."""
        common = {
            "ansible_user": self.account.pw_name, "ansible_ssh_private_key_file": self.server.key,
            "ansible_ssh_common_args": "-o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes -o IdentityAgent=none",
        }  # fmt: skip
        hosts = {}
        for name in names:
            there = {"ansible_host": self.names[name], "ansible_port": self.ports[name]}
            hosts[name] = {**there, "dir": str(self.files_of(name))}
        return {"all": {"hosts": hosts, "vars": common}}

    def config(self, side, hosts, base):
        """The text of ansible.cfg."""
        merged = {section: dict(values) for section, values in CONFIG.items()}
        merged["defaults"].update(forks=max(5, hosts), local_tmp=base / "tmp", home=base / "home")
        merged["ssh_connection"]["control_path_dir"] = base / "cp"
        for section, values in sides.settings(side, self.where).items():
            merged.setdefault(section, {}).update(values)
        return "".join(
            "[%s]\n%s" % (section, "".join("%s = %s\n" % pair for pair in values.items()))
            for section, values in merged.items()
        )

    def settle(self, seconds=10):
        """Wait until nothing of a run is left on either side, ssh's masters excepted, which are ended; the command
        lines of what had to be killed."""

        def ours(group, keep=()):
            return {pid: line for pid, line in group.members().items() if pid not in keep}

        def quiet():
            masters = [pid for pid, line in ours(self.controller).items() if "[mux]" in line]
            if masters:
                self.controller.end(masters)
            return not ours(self.controller) and not ours(self.target, self.daemons)

        try:
            until(quiet, "the run to leave nothing behind", seconds)
        except AssertionError:
            left = {**ours(self.controller), **ours(self.target, self.daemons)}
            self.controller.end(ours(self.controller))
            self.target.end(ours(self.target, self.daemons))
            return list(left.values())
        return []
