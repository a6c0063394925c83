"""A second private sshd for what is odd: other shells and environments, one-time codes, certificates, limits, dropbear.

It is made as ``tests.lab.sshd`` is (a folder under /run, accounts of its own, swept away after a killed run), and is
started only by the tests that need it. Three sshd and a dropbear, without any mount namespace: the interpreter there is
the system's own.

    odd       no PAM; on 127.0.0.1 and ::1; its accounts each have a login shell or a rule (``Match``) of their own
    totp      PAM with a service of its own: a password, then a one-time code
    busy      takes one login at a time (MaxStartups 1)
    dropbear  another program

The account ``free`` is for the tests to set: ``authorize(options)`` writes what its key may do (``command=``,
``environment=``).
"""

import base64
import hashlib
import hmac
import os
import secrets
import shutil
import struct
import subprocess
import time
from pathlib import Path

from tests.lab import processes
from tests.lab.poll import until
from tests.lab.sshd import CLIENT, PREFIX, RUN, CannotStart, Sshd, _account, _free_port, _run, sweep

COMMON = """\
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/keys/%u
StrictModes no
UseDNS no
PrintMotd no
PrintLastLog no
LoginGraceTime 20
Subsystem sftp internal-sftp
PermitUserEnvironment yes
PidFile {directory}/{name}.pid
Port {port}
ListenAddress 127.0.0.1
"""
ODD = """\
ListenAddress ::1
UsePAM no
KbdInteractiveAuthentication no
TrustedUserCAKeys {directory}/ca.pub
HostCertificate {directory}/host_key-cert.pub
Match User {tag}-sftp
  ForceCommand internal-sftp
Match User {tag}-chroot
  ChrootDirectory {directory}/root
Match User {tag}-banner
  Banner {directory}/banner
Match User {tag}-closed
  MaxSessions 0
Match User {tag}-single
  MaxSessions 1
"""
TOTP = """\
UsePAM yes
PasswordAuthentication no
KbdInteractiveAuthentication yes
Match User {tag}-both
  AuthenticationMethods publickey,keyboard-interactive
"""
# nodelay: a wrong password costs two seconds otherwise
PAM = """\
auth required pam_unix.so nodelay
auth required pam_google_authenticator.so user=root secret={directory}/totp allowed_perm=0600
account required pam_unix.so
password required pam_unix.so
session required pam_permit.so
"""
BANNER = "Your password: expires soon\nann@web1's password: \nPermission denied, they said\nPassword: "
#: login shell -> the program; "ash" is busybox
SHELLS = {"mksh": "mksh", "csh": "bsd-csh", "rbash": "rbash", "ash": "busybox", "nologin": "nologin"}


class OddSshd(Sshd):
    """Fields beside those of ``Sshd``: ``ports`` {daemon: port}, ``code_secret`` (of the one-time codes, or None where
    PAM has no module for them), ``ca`` (private key that signs users and hosts), ``accounts`` {what: account}."""

    @classmethod
    def up(cls):
        """Start it, or raise CannotStart."""
        if os.geteuid() != 0:
            raise CannotStart("needs root")
        for program in ("/usr/sbin/sshd", "ssh", "ssh-keygen", "useradd"):
            if not shutil.which(program):
                raise CannotStart("%s is not installed" % program)
        sweep()
        tag = PREFIX + secrets.token_hex(3)
        directory = RUN / tag
        directory.mkdir(mode=0o755)
        directory.chmod(0o755)
        server = cls(directory=str(directory), tag=tag, host="127.0.0.1", daemons={}, users=[], left_out=[], state=None,
                     keeper=processes.identity(os.getpid()), files=[], ports={}, accounts={}, code_secret=None)
        server._save(directory / "state.json")
        try:
            server._keys()
            server._accounts()
            server._servers()
        except BaseException:
            server.down()
            raise
        return server

    def authorize(self, options="", key=None):
        """Let the account ``free`` log in by the key, with these options of authorized_keys."""
        public = Path((key or self.key) + ".pub").read_text()
        Path(self.directory, "keys", self.accounts["free"]).write_text(("%s %s" % (options, public)).lstrip())

    def code(self):
        """The one-time code of this moment."""
        moment = struct.pack(">Q", int(time.time()) // 30)
        digest = hmac.new(base64.b32decode(self.code_secret), moment, hashlib.sha1).digest()
        place = digest[19] & 15
        return "%06d" % ((struct.unpack(">I", digest[place:place + 4])[0] & 0x7FFFFFFF) % 10**6)

    def known(self, daemon="odd", host="127.0.0.1"):
        """The line of known_hosts for one of them."""
        key = Path(self.directory, "host_key.pub").read_text().split()[:2]
        if daemon == "dropbear":
            key = self.dropbear_key
        return "[%s]:%d %s\n" % (host, self.ports[daemon], " ".join(key))

    # ------------------------------------------------------------------------------------------------ its parts
    def _path(self, name):
        return str(Path(self.directory, name))

    def _keys(self):
        self.key, self.ca, self.other_key = map(self._path, ("id_plain", "ca", "id_other"))
        self.passphrase_key, self.passphrase = self._path("id_passphrase"), "Canary of the odd key"
        for path, phrase in ((self.key, ""), (self.ca, ""), (self.other_key, ""), (self._path("host_key"), ""),
                             (self.passphrase_key, self.passphrase)):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-C", "contextree-test", "-N", phrase, "-f", path)
        _run("ssh-keygen", "-q", "-s", self.ca, "-I", "host", "-h", "-n", "127.0.0.1", self._path("host_key.pub"))
        Path(self.directory, "keys").mkdir()

    def _accounts(self):
        shells = {"free": "/bin/sh", "sftp": "/bin/sh", "chroot": "/bin/sh", "banner": "/bin/sh", "closed": "/bin/sh",
                  "single": "/bin/sh", "code": "/bin/sh", "both": "/bin/sh", "expired": "/bin/sh"}
        for name, program in SHELLS.items():
            found = shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin")
            if found is None:
                self.left_out.append("%s is not installed" % program)
                continue
            if name == "ash":
                shutil.copy(found, self._path("ash"))  # it is what its name says
                found = self._path("ash")
            shells[name] = found
        public = Path(self.key + ".pub").read_text()
        for name, shell in shells.items():
            account = self.accounts[name] = "%s-%s" % (self.tag, name)
            self.users.append(account)
            self._save(self._path("state.json"))
            _account("useradd", "-m", "-s", shell, "-p", "*", account)
            Path(self.directory, "keys", account).write_text(public)
        self.password = "Canary odd 9 $x " + secrets.token_hex(4)
        names = [self.accounts[name] for name in ("code", "both", "expired")]
        _run("chpasswd", input="".join("%s:%s\n" % (name, self.password) for name in names))
        _run("chage", "-d", "0", self.accounts["expired"])
        root = Path(self.directory, "root")  # with a shell and env, and no Python
        busybox = shutil.which("busybox")
        if busybox:
            for name in ("bin", "dev", "usr"):
                (root / name).mkdir(parents=True)
            for name in ("sh", "env", "readlink"):
                shutil.copy(busybox, root / "bin" / name)
            os.mknod(root / "dev" / "null", 0o020666, os.makedev(1, 3))
            (root / "dev" / "null").chmod(0o666)
        else:
            self.left_out.append("busybox is not installed")
        Path(self._path("banner")).write_text(BANNER)

    def _servers(self):
        RUN.joinpath("sshd").mkdir(mode=0o755, exist_ok=True)
        self._start("odd", ODD)
        self._start("busy", "UsePAM no\nMaxStartups 1\n")
        if list(Path("/").glob("lib/*/security/pam_google_authenticator.so")):
            self.code_secret = "JBSWY3DPEHPK3PXP"
            secret = Path(self._path("totp"))
            secret.write_text(self.code_secret + '\n" TOTP_AUTH\n" WINDOW_SIZE 5\n')
            secret.chmod(0o600)
            service = Path("/etc/pam.d", self.tag)  # sshd takes the name of the service from its own
            self.files.append(str(service))
            self._save(self._path("state.json"))
            service.write_text(PAM.format(directory=self.directory))
            os.symlink("/usr/sbin/sshd", self._path(self.tag))
            self._start("totp", TOTP, self._path(self.tag))
        else:
            self.left_out.append("libpam-google-authenticator is not installed")
        self._dropbear()
        self.known_hosts, self.ssh_config = self._path("known_hosts"), self._path("ssh_config")
        lines = [self.known(name) for name in self.ports] + [self.known(host="::1")]
        Path(self.known_hosts).write_text("".join(lines))
        hosts = "".join("Host %s\n  User %s\n%s" % (
            name, account, "  Port %d\n" % self.ports.get("totp", 1) if name in ("code", "both", "expired") else "")
            for name, account in self.accounts.items())
        for name in ("busy", "dropbear"):
            hosts += "Host %s\n  User %s\n  Port %d\n" % (name, self.accounts["free"], self.ports.get(name, 1))
        Path(self.ssh_config).write_text(hosts + CLIENT.format(port=self.ports["odd"], directory=self.directory))
        self._save(self._path("state.json"))

    def _start(self, name, text, program="/usr/sbin/sshd"):
        for _attempt in range(5):
            port = self.ports[name] = _free_port()
            config = self._path(name + ".conf")
            text = (COMMON + text).format(directory=self.directory, name=name, port=port, tag=self.tag)
            if not os.path.exists("/proc/net/if_inet6"):
                text = text.replace("ListenAddress ::1\n", "")
            Path(config).write_text(text)
            self.daemons[name] = {"log": self._path(name + ".log"), "process": None, "port": port}
            _run(program, "-f", config, "-E", self._path(name + ".log"))
            if self._listening(name):
                self._save(self._path("state.json"))
                return
        raise CannotStart("sshd %s does not listen" % name)

    def _dropbear(self):
        if not shutil.which("dropbear") or not shutil.which("dropbearkey"):
            self.left_out.append("dropbear is not installed")
            return
        _run("dropbearkey", "-t", "ed25519", "-f", self._path("dropbear_key"))
        said = subprocess.run(["dropbearkey", "-y", "-f", self._path("dropbear_key")], stdout=subprocess.PIPE,
                              text=True, check=True).stdout
        self.dropbear_key = next(line for line in said.splitlines() if line.startswith("ssh-ed25519")).split()[:2]
        home = Path("~" + self.accounts["free"]).expanduser()
        (home / ".ssh").mkdir(mode=0o700)
        (home / ".ssh" / "authorized_keys").write_text(Path(self.key + ".pub").read_text())
        _run("chown", "-R", self.accounts["free"], str(home / ".ssh"))
        port = self.ports["dropbear"] = _free_port()
        pid = Path(self._path("dropbear.pid"))
        self.daemons["dropbear"] = {"log": self._path("dropbear.log"), "process": None, "port": port}
        with open(self._path("dropbear.log"), "w") as log:
            subprocess.run(["dropbear", "-E", "-s", "-p", "127.0.0.1:%d" % port, "-r", self._path("dropbear_key"),
                            "-P", str(pid)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
        until(lambda: pid.exists() and pid.read_text().strip(), "dropbear to listen")
        self.daemons["dropbear"]["process"] = processes.identity(int(pid.read_text()))
