"""Two private sshd on free loopback ports, with their own keys, configuration and accounts; nothing of them stays.

How it works. One sshd runs without PAM, the other with it (and so with keyboard-interactive); each has a host key of
its own, the accounts are the same. Everything lives in one folder under /run (an account's ChrootDirectory may not lie
below a folder that others can write to). The accounts have names that no other run uses. Both run in a mount namespace
of their own: a Python below a private folder such as root's home cannot be reached by other accounts, and its libraries
are found by absolute path, so inside the namespace that folder is replaced by an empty readable one with just the
needed paths mounted back. Nobody outside sees these mounts and they end with the last sshd. sshd puts itself in the
background, so it is nobody's child here.

A run that was killed leaves its folder and accounts; the next ``up`` removes those whose keeper is dead.
"""

import json
import os
import pwd
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from tests.lab import processes, pythons
from tests.lab.poll import until

PREFIX = "ctxt-"
RUN = Path("/run")
ENVIRON = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
CONFIG = """\
{listen}Port {port}
HostKey {directory}/{name}_host_key
PidFile {directory}/{name}.pid
AuthorizedKeysFile {directory}/keys/%u
StrictModes no
UsePAM {pam}
PasswordAuthentication yes
KbdInteractiveAuthentication {pam}
PermitRootLogin prohibit-password
UseDNS no
PrintMotd no
PrintLastLog no
MaxStartups 1000
MaxSessions 1000
LoginGraceTime 20
Subsystem sftp internal-sftp
AcceptEnv LANG LC_*
"""
CLIENT = """\
Host *
  HostName 127.0.0.1
  Port {port}
  UserKnownHostsFile {directory}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  IdentityFile {directory}/id_plain
  IdentitiesOnly yes
  IdentityAgent none
  ConnectTimeout 10
  NumberOfPasswordPrompts 1
  ControlMaster no
  ControlPath none
  LogLevel ERROR
"""


DAEMONS = {"plain": "no", "pam": "yes"}  # name -> UsePAM
SHELLS = ("dash", "zsh", "tcsh", "fish")


class CannotStart(Exception):
    """sshd cannot run here; the text says why."""


class Sshd:
    """A running sshd. Fields:

    host, port       where the one without PAM listens
    addresses        all addresses that both listen at; the first is ``host``
    daemons          {"plain": ..., "pam": ...}: each a dict of ``port``, ``key`` (private host key), ``log`` and
                     ``process``
    key_user         account that takes the keys ``key`` and ``passphrase_key`` (so does root), and no password
    password_user    account that takes ``password``, and the keys too
    noisy_user       account with the shell bash that takes the keys; its ~/.bashrc is for the tests to write
    shell_users      {"zsh": account with this login shell}, for those of SHELLS that are installed
    key              private key file without a passphrase
    passphrase_key   private key file that ``passphrase`` opens
    python_users     {"3.6": account whose PATH has this Python as ``python3`` and ``python`` (2.7: ``python`` alone)}
    known_hosts, ssh_config   files for ``ssh -F``; in the latter ``key``, ``password``, ``noisy``, ``py3.6``, ``zsh``
                     ... are hosts, ``pam`` is the sshd with PAM
    directory        the folder that it all lives in
    left_out         sentences: what it could not offer, and why
    """

    def __init__(self, **fields):
        self.__dict__.update(fields)

    @classmethod
    def up(cls, state=None, keeper=None, addresses=("127.0.0.1",), own=(), apart="", config=""):
        """Start one. Raises CannotStart; then nothing is left behind.

        ``addresses``: up to sixteen loopback addresses, each of which looks like a host of its own. ``own``: folders
        such as /tmp that are empty ones of their own for whoever logs in (``folder(path)`` leads there). ``apart``:
        lines of shell for the mount namespace in which both run, with this server's folder as $1; ``config``: lines for
        the end of their configuration, in which {directory} is that folder.

        ``state``: file to write for ``load``. ``keeper``: pid whose death makes this one a leftover that the next
        ``up`` may remove; default: the parent when there is a state file (the shell that runs us), else this process.
        """
        if os.geteuid() != 0:
            raise CannotStart("needs root")
        for program in ("/usr/sbin/sshd", "ssh", "ssh-keygen", "useradd", "unshare"):
            if not shutil.which(program):
                raise CannotStart("%s is not installed" % program)
        sweep()
        tag = PREFIX + secrets.token_hex(3)
        directory = RUN / tag
        directory.mkdir(mode=0o755)
        directory.chmod(0o755)
        keeper = keeper or (os.getppid() if state else os.getpid())
        server = cls(
            directory=str(directory), host=addresses[0], addresses=list(addresses), own=list(own), apart=apart,
            config=config, port=0, daemons={}, users=[], left_out=[], state=state, keeper=processes.identity(keeper),
        )  # fmt: skip
        server._save(directory / "state.json")
        try:
            server._make_keys()
            server._make_users(tag)
            server._start()
        except BaseException:
            server.down()
            raise
        server._save(directory / "state.json")
        if state:
            server._save(state)
        return server

    @classmethod
    def load(cls, state):
        """The one that another process started with this state file."""
        with open(state) as file:
            return cls(**json.load(file))

    def down(self):
        """Stop it with all its sessions, remove its accounts and files. Safe to repeat."""
        self.down_daemons()
        uids = {pwd.getpwnam(name).pw_uid for name in self.users if _exists(name)}
        uids.discard(0)
        if uids:
            processes.end(processes.owned_by(uids))
        for name in self.users:
            if _exists(name):
                _account("userdel", "-r", name)
        for path in self.__dict__.get("files", ()):
            Path(path).unlink(missing_ok=True)
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.state:
            Path(self.state).unlink(missing_ok=True)

    def known_line(self, daemon="plain", key=None):
        """The line of known_hosts for one of the two, or with the other's key."""
        kind, data = Path(self.daemons[key or daemon]["key"] + ".pub").read_text().split()[:2]
        port = self.daemons[daemon]["port"]
        return "%s %s %s\n" % (",".join("[%s]:%d" % (address, port) for address in self.addresses), kind, data)

    def folder(self, path):
        """Where a folder as who logs in sees it can be reached from here."""
        return Path("/proc/%d/root" % self.daemons["plain"]["process"][0], path.lstrip("/"))

    def ssh(self, *words, **options):
        """subprocess.run of the ssh program with this server's configuration; ``words``: host, command ..."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 30, "check": False, **options}
        options.setdefault("universal_newlines", True)
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(["ssh", "-F", self.ssh_config, "-o", "BatchMode=yes", *words], **options)

    # ------------------------------------------------------------------------------------------------ its parts
    def _save(self, path):
        with open(path, "w") as file:
            json.dump(self.__dict__, file, indent=1)

    def _make_keys(self):
        home = Path(self.directory)
        self.key, self.passphrase_key = str(home / "id_plain"), str(home / "id_passphrase")
        self.passphrase = "Canary of the key " + secrets.token_hex(4)
        for name in DAEMONS:
            self.daemons[name] = {"port": 0, "process": None, "key": str(home / (name + "_host_key")),
                                  "log": str(home / (name + ".log"))}
        hosts = [(daemon["key"], "") for daemon in self.daemons.values()]
        for path, phrase in (*hosts, (self.key, ""), (self.passphrase_key, self.passphrase)):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-C", "contextree-test", "-N", phrase, "-f", str(path))
        (home / "keys").mkdir()
        self.known_hosts, self.ssh_config = str(home / "known_hosts"), str(home / "ssh_config")

    def _make_users(self, tag):
        self.key_user, self.password_user = tag + "-key", tag + "-pw"
        self.noisy_user = tag + "-noisy"
        self.password = "Canary #7 \\o/ it's \"y\" $ecret " + secrets.token_hex(4)
        self.shell_users = {name: "%s-%s" % (tag, name) for name in SHELLS if shutil.which(name)}
        self.left_out += ["%s is not installed" % name for name in SHELLS if name not in self.shell_users]
        self.python_users = {}
        self._pythons = {}
        for minor, python in pythons.one_each().items():
            if python.origin == "chroot":
                continue
            self.python_users[minor] = "%s-py%s" % (tag, minor.replace(".", ""))
            self._pythons[minor] = python.argv[0]
            folder = Path(self.directory, "python", minor)
            folder.mkdir(parents=True)
            for name in ("python",) if minor == "2.7" else ("python", "python3"):
                (folder / name).symlink_to(os.path.realpath(python.argv[0]))
        public = Path(self.key + ".pub").read_text() + Path(self.passphrase_key + ".pub").read_text()
        shells = {user: shutil.which(name) for name, user in self.shell_users.items()}
        for name in ["root", self.key_user, self.password_user, self.noisy_user, *self.python_users.values(), *shells]:
            if name != "root":
                self.users.append(name)  # before it is made: whatever happens, down() removes it
                self._save(Path(self.directory, "state.json"))
                # '*' never matches a password; useradd's own '!' is a locked account, which takes no key either
                _account("useradd", "-m", "-s", shells.get(name, "/bin/bash"), "-p", "*", name)
            Path(self.directory, "keys", name).write_text(public)
        _run("chpasswd", input="%s:%s\n" % (self.password_user, self.password))

    def _start(self):
        home = Path(self.directory)
        RUN.joinpath("sshd").mkdir(mode=0o755, exist_ok=True)  # its privilege separation folder; init's job elsewhere
        private = _private_folders([*self._pythons.values()])
        del self._pythons
        script = _namespace_script(private, home, self.own) + self.apart
        script += '/usr/sbin/sshd -f "$1/plain.conf" -E "$1/plain.log"\n'
        script += 'exec /usr/sbin/sshd -f "$1/pam.conf" -E "$1/pam.log"\n'
        apart = ["unshare", "--mount", "--propagation", "private"]
        wanted = private or self.own or self.apart
        if wanted and subprocess.run([*apart, "true"], stderr=subprocess.DEVNULL, check=False).returncode:
            self.left_out.append("no mount namespace here: %s cannot be reached" % ", ".join([*private, *self.own]))
            apart, script = [], "\n".join(script.splitlines()[-2:])
        for _attempt in range(5):
            for name in DAEMONS:
                self._configure(name)
            _run(*apart, "/bin/sh", "-ec", script, "sh", self.directory)
            listening = [self._listening(name) for name in DAEMONS]  # all are asked: each sets its process
            if all(listening):
                break
            self.down_daemons()
        else:
            raise CannotStart("sshd does not listen: " + (home / "plain.log").read_text().strip()[-300:])
        self.port = self.daemons["plain"]["port"]
        Path(self.known_hosts).write_text("".join(self.known_line(name) for name in DAEMONS))
        names = {"key": self.key_user, "password": self.password_user, "noisy": self.noisy_user, **self.shell_users}
        names.update(("py" + minor, user) for minor, user in self.python_users.items())
        hosts = "".join("Host %s\n  User %s\n" % pair for pair in names.items())
        hosts += "Host pam\n  User %s\n  Port %d\n" % (self.key_user, self.daemons["pam"]["port"])
        # the first value wins in ssh_config, so the general part comes last
        Path(self.ssh_config).write_text(hosts + CLIENT.format(port=self.port, directory=self.directory))
        for path in (self.key, self.passphrase_key):
            os.chmod(path, 0o600)

    def _configure(self, name):
        """Write the configuration of one of them, for a port that is free now."""
        port = self.daemons[name]["port"] = _free_port()
        listen = "".join("ListenAddress %s\n" % address for address in self.addresses)
        text = CONFIG.format(listen=listen, port=port, directory=self.directory, name=name, pam=DAEMONS[name])
        matches = "".join(
            "Match User %s\n  SetEnv PATH=%s/python/%s:/usr/bin:/bin\n" % (user, self.directory, minor)
            for minor, user in self.python_users.items()
        )
        path = Path(self.directory, name + ".conf")
        # since 9.8 a client that fails a few logins is shut out for a while
        for extra in ("PerSourcePenalties no\n", ""):
            path.write_text(text + extra + matches + self.config.format(directory=self.directory))
            check = subprocess.run(
                ["/usr/sbin/sshd", "-t", "-f", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                check=False,
            )  # fmt: skip
            if check.returncode == 0:
                return

    def _listening(self, name):
        """True once this sshd has written its pid, which it does when it listens; False when it gave up."""
        pid_file, log = Path(self.directory, name + ".pid"), Path(self.daemons[name]["log"])

        def settled():
            if pid_file.exists() and pid_file.read_text().strip():
                self.daemons[name]["process"] = processes.identity(int(pid_file.read_text()))
                return True
            return "gave up" if log.exists() and "Bind to port" in log.read_text() else None

        try:
            return until(settled, "sshd to listen", 10) is True
        except AssertionError:
            return False

    def down_daemons(self):
        """End both with all their sessions; their logs and pids are removed."""
        for name, daemon in self.daemons.items():
            if processes.alive(daemon["process"]):
                processes.end([daemon["process"], *processes.descendants(daemon["process"][0])])
            for ending in (".pid", ".log"):
                Path(self.directory, name + ending).unlink(missing_ok=True)


def sweep():
    """Remove what killed runs left: servers whose keeper is dead."""
    for path in RUN.glob(PREFIX + "*/state.json"):
        try:
            server = Sshd.load(path)
        except (ValueError, FileNotFoundError):
            continue  # being written, or being removed, by another run
        if not processes.alive(server.keeper):
            server.down()


def _exists(name):
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _run(*command, **options):
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENVIRON, timeout=60, text=True, check=False,
        **(options if "input" in options else {"stdin": subprocess.DEVNULL}),
    )  # fmt: skip
    if done.returncode:
        raise CannotStart("%s: %s" % (command[0], done.stdout.strip()[-300:] or "status %d" % done.returncode))


def _account(*command):
    """useradd or userdel; another run may hold the lock of the account files for a moment."""

    def attempt():
        try:
            _run(*command)
        except CannotStart as error:
            if "lock" in str(error):
                return False
            raise
        return True

    until(attempt, "the lock of the account files", 30, 0.1)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _private_folders(executables):
    """{folder that other accounts cannot enter: [paths below it that they need]}."""
    wanted = {os.path.dirname(os.path.dirname(os.path.realpath(path))) for path in executables}
    wanted |= {str(pythons.ROOT), sys.prefix, sys.base_prefix}
    private = {}
    for path in sorted(wanted):
        folders = [str(folder) for folder in reversed(Path(path).parents)]
        closed = next((folder for folder in folders if not os.stat(folder).st_mode & 0o001), None)
        if closed and not any(path.startswith(other + "/") for other in private.get(closed, [])):
            private.setdefault(closed, []).append(path)
    return private


def _namespace_script(private, home, own):
    """Shell lines that replace every private folder by a readable one with the needed paths in it, and the ``own``
    ones by empty ones."""
    lines, number = [], 0
    for folder, paths in private.items():
        moves = []
        for path in paths:
            number += 1
            hold = shlex.quote("%s/hold/%d" % (home, number))
            lines.append("mkdir -p %s; mount --bind %s %s" % (hold, shlex.quote(path), hold))
            moves.append("mkdir -p %s; mount --move %s %s" % (shlex.quote(path), hold, shlex.quote(path)))
        lines += ["mount -t tmpfs -o mode=755 tmpfs %s" % shlex.quote(folder), *moves]
    lines += ["mount -t tmpfs -o mode=1777 tmpfs %s" % shlex.quote(folder) for folder in own]
    return "umask 022\n" + "\n".join(lines) + "\n"
