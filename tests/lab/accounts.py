"""Private accounts that may and may not become others by sudo, su and doas; nothing of them stays.

How it works. All accounts have names that no other run uses, and so has the file in /etc/sudoers.d. doas has one
configuration for all, so our lines in it stand between two marks with our name, are added and taken out under a lock,
and speak of our accounts alone: other runs, and whoever uses doas here, do not notice. State lies in a folder under
/run; a run that was killed leaves it with its accounts, and the next ``up`` removes those whose keeper is dead.

The password is one for all who run sudo and doas, and another one for those whom su becomes: so it shows who was given
which.
"""

import contextlib
import fcntl
import json
import os
import pwd
import re
import secrets
import shutil
import subprocess
from pathlib import Path

from tests.lab import processes
from tests.lab.sshd import PREFIX, RUN, CannotStart, _account, _exists, _run

DOAS = Path("/etc/doas.conf")
LOCK = RUN / "ctxt-accounts.lock"
SHELLS = ("dash", "zsh", "tcsh", "fish", "mksh", "busybox")
# name: what is special about it. Those of CALLERS run sudo and doas, TARGETS are whom one becomes.
CALLERS = {
    "ann": "may do everything, with her password",
    "bob": "may do everything, without a password",
    "term": "without a password, if sudo has a terminal",
    "chat": "with a password; sudo greets, shows asterisks and insults",
    "few": "may run /bin/true",
    "out": "may do nothing",
    "old": "as ann, but the password has expired",
    "shut": "as ann, but the account is locked",
    "gone": "as ann, but the account has expired",
}
TARGETS = {
    "dan": "bash", "nob": "nologin", "told": "password expired", "tshut": "locked", "tgone": "account expired",
}
SUDOERS = """\
Defaults:{ann},{few},{out},{old},{shut},{gone},{chat} timestamp_timeout=0, passwd_tries=3
Defaults:{chat} lecture=always, pwfeedback, insults
Defaults:{term} requiretty
Defaults:{ann} env_keep += "CTXT_KEPT"
Defaults:{ann} !use_pty
Defaults:{bob} use_pty
{ann},{old},{shut},{gone},{chat} ALL=(ALL:ALL) SETENV: ALL
{bob},{term},{dan} ALL=(ALL:ALL) NOPASSWD: SETENV: ALL
{few} ALL=(ALL:ALL) NOPASSWD: /bin/true
"""
DOASERS = """\
permit {ann}
permit {old}
permit {shut}
permit {gone}
permit nopass {bob}
permit nopass {dan}
permit nopass {few} cmd /bin/true
"""


class Accounts:
    """Fields: ``password`` (of callers), ``target_password``, ``users`` (all), ``shells`` ({"zsh": account that su may
    become}), and an attribute for each of CALLERS and TARGETS with the full name of the account."""

    def __init__(self, **fields):
        self.__dict__.update(fields)

    @classmethod
    def up(cls):
        """Make them. Raises CannotStart; then nothing is left behind."""
        if os.geteuid() != 0:
            raise CannotStart("needs root")
        for program in ("sudo", "su", "runuser", "visudo", "useradd", "chage"):
            if not shutil.which(program):
                raise CannotStart("%s is not installed" % program)
        sweep()
        tag = PREFIX + secrets.token_hex(3)
        directory = RUN / tag
        directory.mkdir(mode=0o755)
        lab = cls(
            tag=tag, directory=str(directory), users=[], shells={}, keeper=processes.identity(os.getpid()),
            password="Canary #7 \\o/ it's \"y\" $ecret ünd " + secrets.token_hex(4),
            target_password="Canary of the t@rget `%s` " % secrets.token_hex(4),
        )  # fmt: skip
        try:
            lab._make()
        except BaseException:
            lab.down()
            raise
        return lab

    def down(self):
        """Remove all of it and end what runs as one of them. Safe to repeat."""
        Path("/etc/sudoers.d", self.tag).unlink(missing_ok=True)
        self._doas("")
        uids = {pwd.getpwnam(name).pw_uid for name in self.users if _exists(name)} - {0}
        if uids:
            processes.end(processes.owned_by(uids))
        for name in self.users:
            if _exists(name):
                _account("userdel", "-r", name)
            for folder in ("/run/sudo/ts", "/var/lib/sudo/lectured"):
                Path(folder, name).unlink(missing_ok=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _save(self):
        Path(self.directory, "accounts.json").write_text(json.dumps(self.__dict__))

    def _make(self):
        names = {short: "%s-%s" % (self.tag, short) for short in (*CALLERS, *TARGETS)}
        self.__dict__.update(names)
        self.shells = {name: "%s-%s" % (self.tag, name) for name in SHELLS if shutil.which(name)}
        if "busybox" in self.shells:  # a shell's name has no arguments
            Path(self.directory, "ash").symlink_to(shutil.which("busybox"))
        self.users = [*names.values(), *self.shells.values()]
        self._save()  # before they are made: whatever happens, down() removes them
        shells = {user: shutil.which(name) for name, user in self.shells.items()}
        if "busybox" in self.shells:
            shells[self.shells["busybox"]] = self.directory + "/ash"
        shells[self.nob] = shutil.which("nologin") or "/usr/sbin/nologin"
        for name in self.users:
            _account("useradd", "-m", "-s", shells.get(name, "/bin/bash"), name)
        lines = ["%s:%s\n" % (names[short], self.password) for short in CALLERS]
        lines += ["%s:%s\n" % (name, self.target_password) for name in self.users if name not in
                  [names[short] for short in CALLERS]]
        # busybox's static libc knows no newer method
        _run("chpasswd", "-c", "SHA512", input="".join(lines))
        for short in "old", "told":
            _run("chage", "-d", "0", names[short])
        for short in "gone", "tgone":
            _run("chage", "-E", "0", names[short])
        for short in "shut", "tshut":
            _run("usermod", "-L", names[short])
        text = Path(self.directory, "sudoers")
        text.write_text(SUDOERS.format(**names))
        _run("visudo", "-cqf", str(text))
        text.chmod(0o440)
        shutil.move(text, Path("/etc/sudoers.d", self.tag))
        if shutil.which("doas"):
            self._doas(DOASERS.format(**names))

    def _doas(self, text):
        """Put ``text`` between our marks in doas.conf; nothing takes the marks away too."""
        with LOCK.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            old = DOAS.read_text() if DOAS.exists() else "# only for contextree's tests\n"
            begin, end = "# begin %s\n" % self.tag, "# end %s\n" % self.tag
            new = re.sub("(?s)%s.*?%s" % (re.escape(begin), re.escape(end)), "", old)
            new += begin + text + end if text else ""
            if new == "# only for contextree's tests\n":
                DOAS.unlink(missing_ok=True)
            elif new != old:
                draft = DOAS.with_name(".doas.conf." + self.tag)
                draft.touch(mode=0o400)
                draft.write_text(new)
                draft.chmod(DOAS.stat().st_mode & 0o7777 if DOAS.exists() else 0o400)
                draft.rename(DOAS)


def sweep():
    """Remove what killed runs left: those whose keeper is dead."""
    for path in RUN.glob(PREFIX + "*/accounts.json"):
        with contextlib.suppress(ValueError, FileNotFoundError):  # being written, or removed, by another run
            lab = Accounts(**json.loads(path.read_text()))
            if not processes.alive(lab.keeper):
                lab.down()


def as_user(user, *command, **options):
    """subprocess.run of a command as ``user``, with a small environment and without the help of what is tested."""
    entry = pwd.getpwnam(user)
    env = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": entry.pw_dir, "LC_ALL": "C.UTF-8"}
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 30,
               "text": True, **options}
    return subprocess.run(command, user=entry.pw_uid, group=entry.pw_gid, extra_groups=[], env=env, cwd="/",
                          start_new_session=True, **options)
