"""A private docker engine, and a private store of podman and buildah; nothing of them stays.

How it works. Each lives in a folder of its own under /run, with names that no other run uses: dockerd has its socket,
its images and its state there and touches neither network nor iptables; podman and buildah are told by ``--root``,
``--runroot`` and a configuration. dockerd puts itself in the background, so it is nobody's child here. Images and
mounts are those of ``tests.lab.rootfs``. Containers run for as long as the lab does; each test takes those that it
does no harm to, or makes its own by ``run``.

A run that was killed leaves its folder, its daemon and its containers; the next ``up`` removes those whose keeper is
dead.

What machines lack (seen on some): CAP_SYS_RESOURCE, so podman is told limits that it can have; a pure cgroup v2, on
which crun insists and runc does not. An empty file ``oom`` that podman's conmon leaves behind where a container ran out
of memory lies in the lab's folder, as that is where all commands run.
"""

import json
import os
import resource
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab import processes, rootfs
from tests.lab.poll import until

PREFIX = "ctxt-"
RUN = Path("/run")
ENVIRON = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
PODMAN_CONF = """\
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
netns = "none"
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""


class CannotStart(Exception):
    """It cannot run here; the text says why."""


class Lab:
    """What docker and podman have in common. Fields:

    program     words that begin every command
    env         variables that the commands want, beside the usual ones
    images      {"plain": with shell and Python, "bare": with a shell alone, "none": with neither}: their names
    container   the name of a running container of the image "plain"
    directory   the folder that it all lives in
    """

    kind = ""
    needed = ()  # programs

    def __init__(self, **fields):
        self.__dict__.update(fields)

    @classmethod
    def up(cls):
        """Start one. Raises CannotStart; then nothing is left behind."""
        if os.geteuid() != 0:
            raise CannotStart("needs root")
        for program in cls.needed:
            if not shutil.which(program):
                raise CannotStart("%s is not installed" % program)
        if rootfs.busybox() is None:
            raise CannotStart("busybox-static is not installed")
        cls.sweep()
        tag = PREFIX + cls.kind + "-" + secrets.token_hex(3)
        directory = RUN / tag
        directory.mkdir(mode=0o755)
        lab = cls(tag=tag, directory=str(directory), keeper=processes.identity(os.getpid()), env={}, program=[],
                  images={}, container=tag, daemon=None)
        lab.save()
        try:
            lab.start()
            lab.save()
            for name, data in (("plain", rootfs.image(python=rootfs.system_python())), ("bare", rootfs.image()),
                               ("none", rootfs.image(shell=False))):
                lab.images[name] = lab.load_image(name, data)
            lab.run_container(lab.container)
            lab.save()
        except BaseException:
            lab.down()
            raise
        return lab

    @classmethod
    def sweep(cls):
        """Remove what killed runs left: labs whose keeper is dead."""
        for path in RUN.glob("%s%s-*/containers.json" % (PREFIX, cls.kind)):
            try:
                lab = cls(**json.loads(path.read_text()))
            except (ValueError, FileNotFoundError):
                continue  # being written, or being removed, by another run
            if not processes.alive(lab.keeper):
                lab.down()

    def save(self):
        Path(self.directory, "containers.json").write_text(json.dumps(self.__dict__))

    def command(self, *words):
        """A whole command."""
        return [*self.program, *words]

    def run(self, *words, check=True, **options):
        """Run a command; what it writes to stdout, without the last line end. CannotStart if it fails."""
        done = subprocess.run(self.command(*words), capture_output=True, cwd=self.directory, timeout=60,
                              env={**ENVIRON, **self.env}, check=False, **(options or {"stdin": subprocess.DEVNULL}))
        if check and done.returncode:
            raise CannotStart("%s: %s" % (" ".join(words), done.stderr.decode("utf-8", "replace").strip()[-300:]))
        return done.stdout.decode("utf-8", "replace").rstrip("\n")

    def load_image(self, name, data):
        """Make an image of a tar; its name."""
        full = "localhost/%s-%s:1" % (self.tag, name)
        self.run("import", "-", full, input=data)
        return full

    def run_container(self, name=None, image="plain", options=(), command=None, mounts=True):
        """Start a container; its name. It runs until it is removed."""
        name = name or "%s-%s" % (self.tag, secrets.token_hex(3))
        if command is None:
            command = (["sleep", "1000000"] if image == "bare" else
                       [rootfs.system_python(), "-ISc", rootfs.INIT])
        words = ["run", "-d", "--name", name, "--network", "none", *self.run_options(), *options]
        if mounts:
            words += ["--volume=%s:%s:ro" % pair for pair in rootfs.mounts()]
        self.run(*words, self.images[image], *command)
        return name

    def run_options(self):
        return ["--cgroup-parent", "/" + self.tag, "--stop-timeout", "0"]

    def processes(self, container=None):
        """The identities, as this machine numbers them, of the processes in a container but its first one."""
        first = int(self.run("inspect", "--format", "{{.State.Pid}}", container or self.container))
        space = os.readlink("/proc/%d/ns/pid" % first)
        found = []
        for pid in processes.every():
            try:
                if pid != first and os.readlink("/proc/%d/ns/pid" % pid) == space:
                    found.append(processes.identity(pid))
            except OSError:
                continue
        return [who for who in found if processes.alive(who)]

    def remove(self, *names):
        """Remove containers, running or not."""
        self.run("rm", "-f", *names)

    def down(self):
        """End all containers and the daemon, and remove every file. Safe to repeat."""
        self.end()
        until(self.removed, "the files of %s to go away" % self.directory, 10, 0.1)

    def removed(self):
        """Unmount and remove everything; True once that is done. What conmon starts at the end of a container may still
        be about to mount something."""
        for row in reversed(Path("/proc/mounts").read_text().splitlines()):
            path = row.split()[1]
            if path.startswith(self.directory + "/"):
                subprocess.run(["umount", "-l", path], stderr=subprocess.DEVNULL, check=False)
        for path in Path("/sys/fs/cgroup").glob("*/" + self.tag):
            for folder in [*sorted((each for each in path.rglob("*") if each.is_dir()), reverse=True), path]:
                try:
                    folder.rmdir()
                except OSError:
                    pass
        left = [path for path in Path(self.directory).glob("*") if path.name != "containers.json"]
        for path in left:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        if any(path.exists() for path in left):
            return False
        shutil.rmtree(self.directory, ignore_errors=True)  # with it goes what ``sweep`` knows it by
        return True


class Docker(Lab):
    """A docker engine; ``host`` is its address, for ``docker --host``."""

    kind = "docker"
    needed = ("docker", "dockerd", "runc")

    def start(self):
        self.host = "unix://%s/docker.sock" % self.directory
        self.program = ["docker", "--host", self.host]
        self.env = {"DOCKER_CONFIG": self.directory + "/config"}
        words = ["dockerd", "--host", self.host, "--data-root", self.directory + "/data", "--exec-root",
                 self.directory + "/exec", "--pidfile", self.directory + "/pid", "--bridge", "none",
                 "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false", "--oom-score-adjust",
                 "0", "--config-file", self.directory + "/daemon.json"]
        Path(self.directory, "daemon.json").write_text("{}")
        log = self.directory + "/log"
        subprocess.run(["/bin/sh", "-c", 'log=$1; shift; setsid "$@" >"$log" 2>&1 </dev/null &', "sh", log, *words],
                       env=ENVIRON, cwd="/", check=True)
        pid = Path(self.directory, "pid")

        def ready():
            if pid.exists() and pid.read_text().strip():
                self.daemon = processes.identity(int(pid.read_text()))
            return Path(self.host[7:]).exists() and not subprocess.run(
                self.command("version"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRON,
                check=False).returncode

        try:
            until(ready, "dockerd to answer", 20, 0.05)
        except AssertionError:
            raise CannotStart("dockerd does not start: " + Path(log).read_text()[-300:]) from None

    def end(self):
        if not processes.alive(self.daemon):
            return
        below = processes.descendants(self.daemon[0])
        names = self.run("ps", "-aq", check=False).split()
        if names:
            self.run("rm", "-f", *names, check=False)
        os.kill(self.daemon[0], 15)
        try:
            until(lambda: not processes.alive(self.daemon), "dockerd to end", 10)
        except AssertionError:
            pass
        processes.end([self.daemon, *below])


class Podman(Lab):
    """A store of podman's, rootful. ``buildah`` has the words that begin buildah's commands on the same store."""

    kind = "podman"
    needed = ("podman", "runc", "conmon")

    def start(self):
        home = Path(self.directory)
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        count = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        count = 32768 if count == resource.RLIM_INFINITY else min(count, 32768)
        (home / "containers.conf").write_text(PODMAN_CONF.format(files=files, processes=count))
        (home / "storage.conf").write_text('[storage]\ndriver = "overlay"\nrunroot = "%s/run"\ngraphroot = "%s/store"\n'
                                           % (home, home))
        (home / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        self.env = {"CONTAINERS_CONF": str(home / "containers.conf"),
                    "CONTAINERS_STORAGE_CONF": str(home / "storage.conf")}
        begin = ["env", *("%s=%s" % pair for pair in self.env.items())]
        where = ["--root", str(home / "store"), "--runroot", str(home / "run"), "--storage-driver", "overlay"]
        self.program = [*begin, "podman", *where, "--tmpdir", str(home / "tmp")]
        self.buildah = [*begin, "buildah", *where]

    def end(self):
        if Path(self.directory, "store").exists() and self.program:
            if shutil.which("buildah"):
                subprocess.run([*self.buildah, "rm", "-a"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=ENVIRON, check=False, timeout=60)
            self.run("rm", "-fa", "-t", "0", check=False)
        theirs = [pid for pid in processes.every() if self.directory in processes.command_line(pid)]
        processes.end([who for who in map(processes.identity, theirs) if who and who[0] != os.getpid()])

    def working_container(self, image="plain", mounts=True, name=None):
        """A working container of buildah's; its name."""
        if not shutil.which("buildah"):
            raise CannotStart("buildah is not installed")
        name = name or "%s-%s" % (self.tag, secrets.token_hex(3))
        words = ["from", "--name", name, "--pull=never"]
        if mounts:
            words += ["--volume=%s:%s:ro" % pair for pair in rootfs.mounts()]
        done = subprocess.run([*self.buildah, *words, self.images[image]], capture_output=True, text=True, env=ENVIRON,
                              check=False, timeout=60)
        if done.returncode:
            raise CannotStart("buildah from: " + done.stderr.strip()[-300:])
        return name


if __name__ == "__main__":  # by hand: python -m tests.lab.containers docker
    lab = {"docker": Docker, "podman": Podman}[sys.argv[1]].up()
    print(" ".join(lab.program), lab.container)
    input()
    lab.down()
