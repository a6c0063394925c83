"""Where playbooks run: a private sshd with several addresses as hosts, and a folder for each run.

Who logs in has a /tmp and a /var/tmp of their own, so a file of the controller is never taken for one of a target by
chance; the rest of the file system is the same for all. Each run of a playbook finds the same empty folders: ``run``
(home, temporary files and configuration of the controller) and ``work`` (what it makes on hosts).
"""

import contextlib
import hashlib
import http.server
import json
import os
import pwd
import shutil
import stat
import subprocess
import threading
from pathlib import Path
from typing import Any

from tests.lab import processes, pythons
from tests.lab.accounts import Accounts
from tests.lab.sshd import Sshd

ADDRESSES = tuple("127.0.0.%d" % number for number in range(2, 13))
TEMPORARY = ("/tmp", "/var/tmp")
HERE = Path(__file__).resolve().parent
PLAYBOOKS = HERE / "playbooks"
SSH = """\
Host *
  Port {port}
  UserKnownHostsFile {known_hosts}
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  IdentityFile {key}
  IdentitiesOnly yes
  IdentityAgent none
  ConnectTimeout 10
"""

# Two hosts are other file systems: ``bare9`` has busybox and no Python, ``new10`` the newest Pythons. Whoever logs in
# there (with a shell that they have) finds the folders of runs where they are elsewhere.
ROOTS = r"""
mkdir -p "$1/roots" "$1/ansible"
mount -t tmpfs -o mode=755 tmpfs "$1/roots"
cd "$1/roots"
mkdir -p bare/bin bare/usr/bin bare/etc new/bin upper work
[ ! -d "{chroot}" ] || mount -t overlay -o "lowerdir={chroot},upperdir=upper,workdir=work" overlay new
for root in bare new; do
  cp "$(command -v busybox)" $root/bin/busybox
  for name in $(busybox --list); do [ -e $root/bin/$name ] || ln -s busybox $root/bin/$name; done
done
rm bare/bin/su
printf '#!/bin/sh\nexec /bin/sh "$@"\n' >bare/bin/dash
chmod 755 bare/bin/dash
for name in dash env; do ln -s ../../bin/$name bare/usr/bin/$name; done
for root in bare new; do
  mkdir -p $root/etc $root/proc $root/dev $root/tmp $root/home "$root$1/ansible"
  chmod 1777 $root/tmp
  cp /etc/passwd /etc/group $root/etc
  for home in /home/"${{1##*/}}"-*; do cp -a "$home" $root/home; done
  mount --rbind /proc $root/proc
  mount --rbind /dev $root/dev
  mount --bind "$1/ansible" "$root$1/ansible"
done
cd /
"""
MATCHES = """
Match LocalAddress {bare}
  ChrootDirectory {{directory}}/roots/bare
Match LocalAddress {new},{newer}
  ChrootDirectory {{directory}}/roots/new
"""


class Lab:
    """Fields: ``sshd``, ``accounts`` (made when first asked for), ``run``, ``work``, ``ssh_config``, ``new_pythons``
    (minor versions at the host ``new10``)."""

    def __init__(self) -> None:
        chroot = pythons.chroot_directory()
        self.new_pythons = [python.minor for python in pythons.find() if python.origin == "chroot"]
        self.sshd = Sshd.up(
            addresses=ADDRESSES, own=TEMPORARY,
            config=MATCHES.format(bare=ADDRESSES[8], new=ADDRESSES[9], newer=ADDRESSES[10]),
            apart=ROOTS.format(chroot=chroot / "root" if self.new_pythons else ""))
        self._accounts: Any = None
        base = Path(self.sshd.directory, "ansible")
        self.run, self.work, self.ssh_config = base / "run", base / "work", base / "ssh_config"
        self._server: Any = None
        self._thread: Any = None
        self._materials: dict[str, str] = {}
        base.mkdir(exist_ok=True)
        self.materials()
        self.ssh_config.write_text(SSH.format(**self.sshd.__dict__))

    def down(self) -> None:
        """Stop it; nothing of it stays."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
        if self._accounts is not None:
            self._accounts.down()
        self.sshd.down()

    @property
    def accounts(self) -> Any:
        """Accounts that may become others; the key of the lab's accounts opens theirs too."""
        if self._accounts is None:
            self._accounts = Accounts.up()
            public = Path(self.sshd.directory, "keys", self.sshd.key_user).read_text()
            for name in self._accounts.users:
                Path(self.sshd.directory, "keys", name).write_text(public)
        return self._accounts

    def materials(self) -> dict[str, str]:
        """Variables of playbooks: a large file, archives, the address of a server of the files in playbooks/files."""
        if not self._materials:
            base = self.run.parent / "materials"
            base.mkdir()
            (base / "large").write_bytes(b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(50000)))
            self._materials = {"large": str(base / "large"), "http": self._serve(),
                               "tar": shutil.make_archive(str(base / "tree"), "gztar", PLAYBOOKS / "files", "tree"),
                               "zip": shutil.make_archive(str(base / "tree"), "zip", PLAYBOOKS / "files", "parts")}
        return self._materials

    def _serve(self) -> str:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return "http://127.0.0.1:%d" % self._server.server_address[1]

    def clean(self) -> None:
        """Empty folders for a run."""
        for folder in (self.run, self.work):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.run / "home", self.run / "tmp", self.work):
            folder.mkdir(parents=True)
        self.work.chmod(0o1777)
        for name in TEMPORARY:
            for path in self.sshd.folder(name).iterdir():
                _remove(path)
        # made by the first who becomes root, with a warning
        self.sshd.folder("/root/.ansible/tmp").mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in self.users():
            for folder in (".ansible", ".ansible_async"):
                _remove(Path(pwd.getpwnam(name).pw_dir, folder))

    @staticmethod
    def forget(path: Path) -> None:
        """Remove what is there."""
        _remove(path)

    def venv(self) -> str:
        """The Python of a virtual environment that hosts can use."""
        home = self.run.parent / "venv"
        if not home.exists():
            subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", str(home)], check=True)
        return str(home / "bin/python")

    def users(self) -> list[str]:
        """All accounts of the lab."""
        return [*self.sshd.users, *(self._accounts.users if self._accounts is not None else ())]

    def inventory(self, hosts: dict[str, dict[str, Any]] | None, mode: str) -> Path:
        """Write an inventory. ``hosts``: variables by name; h1, h2, ... are addresses, ``here`` is the controller."""
        found: dict[str, dict[str, Any]] = {}
        for name, variables in (hosts or {"h1": {}, "h2": {}, "here": {}}).items():
            known: dict[str, Any] = {"ansible_python_interpreter": "/usr/bin/python3"}
            if name == "here":
                known.update(ansible_connection="local", ansible_remote_tmp=str(self.run / "home/.ansible/tmp"))
            elif name == "absent":  # no address of the sshd: refused
                known.update(ansible_host="127.0.0.250", ansible_port=1)
            else:
                user = self.sshd.shell_users["dash"] if name[:3] in ("bar", "new") else self.sshd.key_user
                known.update(ansible_host=ADDRESSES[int("".join(filter(str.isdigit, name))) - 1], ansible_user=user)
            known.update(variables)
            kind = known.get("ansible_connection")
            if mode == "connection" and kind in ("ssh", "local"):
                known["ansible_connection"] = "contextree.fast." + kind
            found[name] = {key: each for key, each in known.items() if each is not None}
        far: dict[str, Any] = {name: {} for name in found if name != "here"}
        if len(far) > 1:  # several hosts share a home: who comes first would say that it made the folder
            for user in map(pwd.getpwnam, self.users()):
                if os.path.isdir(user.pw_dir):
                    _make(Path(user.pw_dir, ".ansible/tmp"), user)
        path = self.run / "inventory.json"
        path.write_text(json.dumps({"all": {"hosts": found, "children": {"far": {"hosts": far}}}}))
        return path

    def made(self) -> dict[str, list[str]]:
        """What a run made on the hosts: {path: [kind and mode, owner, group, content]}."""
        found = {}
        for path in sorted(self.work.rglob("*")):
            facts = path.lstat()
            content = ""
            if stat.S_ISLNK(facts.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(facts.st_mode):
                data = path.read_bytes()
                content = data.decode() if len(data) < 2000 and data.isascii() else hashlib.sha256(data).hexdigest()
            found[str(path.relative_to(self.work))] = [stat.filemode(facts.st_mode), str(facts.st_uid),
                                                       str(facts.st_gid), content]
        return found

    def left(self, token: str) -> list[str]:
        """What a run has left: processes that carry its token, or serve or belong to the hosts' accounts; files."""
        found = []
        mark, tag = token.encode(), Path(self.sshd.directory).name.encode()
        own = {daemon["process"][0] for daemon in self.sshd.daemons.values()}
        serving = {who[0] for pid in own for who in processes.descendants(pid)}
        tags = [mark, *([self._accounts.tag.encode() + b"-"] if self._accounts is not None else []), tag + b"-"]
        for pid in processes.every():
            with contextlib.suppress(OSError):
                if pid not in own and pid != os.getpid() and processes.alive(processes.identity(pid)):
                    environ = Path("/proc/%d/environ" % pid).read_bytes()
                    if pid in serving or any(each in environ for each in tags):
                        found.append("process %d: %s" % (pid, processes.command_line(pid)))
        folders = [self.run / "tmp", self.run / "home/.ansible/tmp", self.run / "home/.ansible/cp",
                   *map(self.sshd.folder, TEMPORARY)]
        folders += [Path(pwd.getpwnam(name).pw_dir, ".ansible/tmp") for name in self.users()]
        for folder in folders:
            if folder.exists():
                found += ["file %s" % path for path in folder.iterdir()]
        return found


def _make(path: Path, owner: Any) -> None:
    for folder in (path.parent, path):
        folder.mkdir(mode=0o700, exist_ok=True)
        os.chown(folder, owner.pw_uid, owner.pw_gid)


class Files(http.server.SimpleHTTPRequestHandler):
    """Gives out the files of the playbooks, and says nothing of it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, directory=str(PLAYBOOKS / "files"), **kwargs)

    def log_message(self, format: str, *args: Any) -> None:
        """See there."""


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def target_pythons(*minors: str) -> dict[str, str]:
    """{minor: path} of those Pythons that hosts have, for ansible_python_interpreter."""
    found = pythons.one_each()
    return {minor: os.path.realpath(found[minor].argv[0]) for minor in minors
            if minor in found and found[minor].origin != "chroot"}
