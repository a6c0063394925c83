"""A private sshd that is started anew while others use it, and its sessions that are ended:

    python tests/lab/sshd_again.py HOW DIRECTORY

HOW is ``restart`` (sessions go on, as with most service managers), ``all`` (its sessions are killed too), ``stop``, or
``key`` and ``own-key``: restart with the host key of the other one that runs there, and with its own.
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.lab import processes
from tests.lab.poll import until


def again(how, directory, more=None):
    """Do it, for the one without PAM; returns when it listens. ``more``: lines of its configuration from now on."""
    home = Path(directory)
    conf, pid = home / "plain.conf", home / "plain.pid"
    number = int(pid.read_text()) if pid.exists() else 0
    who = processes.identity(number) if number else None
    sessions = processes.descendants(number) if who and how == "all" else []
    processes.end([each for each in (who, *sessions) if each])
    pid.unlink(missing_ok=True)
    if how == "stop":
        return None
    text = conf.read_text()
    if how.endswith("key"):
        wrong, right = ("pam", "plain") if how == "own-key" else ("plain", "pam")
        text = text.replace("/%s_host_key" % wrong, "/%s_host_key" % right)
    if more is not None:
        text = text.partition("# more\n")[0] + "# more\n" + more
    conf.write_text(text)
    place = (home / "pam.pid").read_text().strip()  # the other one has the mount namespace

    def failures():
        return (home / "plain.log").read_text().count("Cannot bind")

    def listens():
        before = failures()
        if subprocess.run(["nsenter", "-t", place, "-m", "/usr/sbin/sshd", "-f", str(conf), "-E",
                           str(home / "plain.log")], check=False).returncode:
            return False
        until(lambda: (pid.exists() and pid.read_text().strip()) or failures() > before, "sshd to listen", 10)
        return pid.exists()

    until(listens, "sshd to be there again", 20, 0.2)
    return processes.identity(int(pid.read_text()))


if __name__ == "__main__":
    again(*sys.argv[1:])
