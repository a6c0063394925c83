"""What every container lab has: a private folder below /run, a tag in all names, and an end that leaves nothing.

A box is a folder ``/run/ctxt-TAG`` with ``box.json``: kind, keeper and processes. All daemons and containers of it
carry TAG in the names of their cgroups, or are among ``processes``. ``down`` ends these, takes away mounts, cgroups and
files; a box whose keeper was killed is swept by the next one that starts. Daemons put themselves in the background,
without the mark of this run in their environment, so they are nobody's child here.
"""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
from pathlib import Path

from tests.lab import processes
from tests.lab.poll import until

RUN = Path("/run")
PREFIX = "ctxt-"
CGROUPS = Path("/sys/fs/cgroup")
ENVIRON = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_DAEMON = 'echo $$ >"$0.new" && mv "$0.new" "$0" && exec "$@" </dev/null >>"${0%.pid}.log" 2>&1'


class CannotStart(Exception):
    """This kind of container cannot be had here; the text says why."""


class Box:
    """Subclass it: ``programs`` names what must be installed, ``start`` builds, ``stop`` ends what has its own way to.

    tag        letters and digits in the name of everything
    directory  where it all is
    env        the environment of its programs
    common     what ``first`` has made
    """

    kind = "box"
    programs = ()

    def __init__(self, tag=None, keeper=None, **fields):
        self.tag = tag or secrets.token_hex(4)
        self.directory = RUN / (PREFIX + self.tag)
        self.keeper = keeper or processes.identity(os.getpid())
        self.processes = fields.get("processes", [])
        self.env = dict(ENVIRON)

    @classmethod
    def up(cls):
        """Start one, or raise CannotStart; then nothing is left behind."""
        if os.geteuid() != 0:
            raise CannotStart("needs root")
        for program in cls.programs:
            if not shutil.which(program, path=ENVIRON["PATH"]):
                raise CannotStart("%s is not installed" % program)
        sweep()
        box = cls()
        box.directory.mkdir(mode=0o711)
        box.save()
        try:
            box.start()
            box.common = box.first()
        except (AssertionError, subprocess.SubprocessError, OSError) as error:
            box.down()
            raise CannotStart(str(error)[-400:]) from error
        except BaseException:
            box.down()
            raise
        return box

    def start(self):
        """Build what the kind needs."""

    def first(self):
        """Its first container, which shows that it works; ``common`` is for tests that do it no harm."""

    def stop(self):
        """End what is better told to end than killed."""

    def save(self):
        """Write ``box.json``; also whenever a process has been added."""
        path = self.directory / "box.json"
        path.with_suffix(".new").write_text(json.dumps(
            {"kind": self.kind, "tag": self.tag, "keeper": self.keeper, "processes": self.processes}))
        path.with_suffix(".new").rename(path)

    def run(self, *command, **options):
        """subprocess.run with output; CannotStart when it fails."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "timeout": 60,
                   "text": True, "env": self.env, **options}
        if "input" in options:
            del options["stdin"]
        done = subprocess.run([str(word) for word in command], check=False, **options)
        if done.returncode:
            raise CannotStart("%s: %s" % (command[0], done.stdout.strip()[-400:] or "status %d" % done.returncode))
        return done.stdout

    def daemon(self, name, *command, cgroups=()):
        """Start a process in the background; returns its identity. Its output is in NAME.log."""
        pid_file = self.directory / (name + ".pid")
        script = "".join('echo $$ >"%s/cgroup.procs"; ' % path for path in cgroups) + _DAEMON
        self.run("setsid", "--fork", "sh", "-c", script, str(pid_file), *command, stdout=subprocess.DEVNULL,
                 stderr=subprocess.DEVNULL)
        until(pid_file.exists, "%s to start" % name)
        who = processes.identity(int(pid_file.read_text())) or [int(pid_file.read_text()), 0]
        self.processes.append(who)
        self.save()
        return who

    def log(self, name):
        """The last lines that a daemon wrote."""
        return (self.directory / (name + ".log")).read_text(errors="replace").strip()[-600:]

    def await_up(self, who, name, condition, timeout=20):
        """Wait until ``condition()``; CannotStart with the log when the process ends or the time is up."""
        def settled():
            if condition():
                return "up"
            return None if processes.alive(who) else "dead"

        try:
            if until(settled, name, timeout, 0.02) == "up":
                return
        except AssertionError:
            pass
        raise CannotStart("%s does not start: %s" % (name, self.log(name)))

    def down(self):
        """End everything and leave nothing. Safe to repeat."""
        if self.directory.exists():
            with contextlib.suppress(CannotStart, subprocess.TimeoutExpired):
                self.stop()
        below = [who for first in self.processes for who in processes.descendants(first[0]) if processes.alive(first)]
        processes.end(self.processes + below)
        end_cgroups(self.tag)
        for path in reversed(mounts(self.directory)):
            subprocess.run(["umount", "-l", path], stderr=subprocess.DEVNULL, check=False, timeout=20)
        shutil.rmtree(self.directory, ignore_errors=True)


def mounts(directory):
    """What is mounted in a folder, in the order of mounting."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        path = line.split(" ")[1].encode().decode("unicode_escape")
        if path == str(directory) or path.startswith("%s/" % directory):
            found.append(path)
    return found


def cgroups(tag):
    """The control groups with the tag in their name, in all hierarchies."""
    found = []
    for root in [CGROUPS, *CGROUPS.iterdir()] if CGROUPS.is_dir() else []:
        for pattern in ("*%s*" % tag, "*/*%s*" % tag):
            with contextlib.suppress(OSError):
                found += [path for path in root.glob(pattern) if path.is_dir()]
    return sorted(set(found))


def end_cgroups(tag, timeout=10.0):
    """Kill what runs in them, and remove them."""
    def gone():
        for top in cgroups(tag):
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    for pid in Path(folder, "cgroup.procs").read_text().split():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(int(pid), 9)
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        return not cgroups(tag)

    until(gone, "control groups of %s to go" % tag, timeout)


def kinds(cls=Box):
    """{kind: class} of all boxes."""
    return {cls.kind: cls, **{name: kind for sub in cls.__subclasses__() for name, kind in kinds(sub).items()}}


def sweep():
    """Remove what killed runs left: boxes whose keeper is dead."""
    from tests.lab import handmade, lxc, lxd, machines  # noqa: F401  the kinds

    for path in RUN.glob(PREFIX + "*/box.json"):
        try:
            fields = json.loads(path.read_text())
            box = kinds()[fields.pop("kind")](**fields)
        except (ValueError, KeyError, FileNotFoundError):
            continue  # being removed by another run, or of a newer one
        if not processes.alive(box.keeper):
            box.down()
