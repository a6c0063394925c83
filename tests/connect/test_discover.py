"""The search for an interpreter: which one is taken, in every shell that may be ``sh``, and what it says if none is."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from contextree.connect import discover, ssh
from contextree.connect.plan import PYTHON_QUOTED, PYTHON_SAFE, Plan, command
from contextree.connect.quote import quote

SHELLS = {"dash": ["dash"], "bash": ["bash"], "busybox": ["busybox", "sh"], "mksh": ["mksh"], "zsh": ["zsh"]}
TELL = ("import os, sys; print(sys.executable, sys.version_info[:2], os.environ.get(\"PYTHONSAFEPATH\"), sys.argv[1:], "
        "sys.stdin.read())")
SHIM = "#!/bin/sh\necho 'pyenv: python3: command not found' >&2\nexit 127\n"
REAL = os.path.realpath("/usr/bin/python3") if os.path.exists("/usr/bin/python3") else os.path.realpath(sys.executable)


class Host:
    """A folder that is the whole PATH, without the interpreters that have absolute names unless ``fixed``."""

    def __init__(self, folder, shell):
        self.folder, self.shell = folder, [shutil.which(shell[0]), *shell[1:]]
        self.fixed = False
        self.tool("readlink")

    def tool(self, name):
        (self.folder / name).symlink_to(shutil.which(name))

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)

    def link(self, name, target=REAL):
        (self.folder / name).symlink_to(target)

    def run(self, path=None):
        """(what the interpreter said, stderr, status)."""
        words = list(discover.WORDS)
        if not self.fixed:
            words[2] = re.sub("/(usr|opt)[a-z/-]*/(python3|platform-python) ", r"/no/\2 ", words[2])
        done = subprocess.run([*self.shell, *words[1:], "-I", "-c", TELL, "a b", "*", "$x"], input="all of stdin",
                              env={"PATH": str(self.folder) if path is None else path}, capture_output=True, text=True,
                              timeout=20)
        return done.stdout, done.stderr, done.returncode


@pytest.fixture(params=list(SHELLS))
def host(request, tmp_path):
    """For each shell, an empty host."""
    shell = SHELLS[request.param]
    if not shutil.which(shell[0]):
        pytest.skip("%s is not installed" % shell[0])
    return Host(tmp_path, shell)


def took(said, name, host):
    out, err, status = said
    assert (err, status) == ("", 0)
    assert out.startswith("%s " % (host.folder / name)), out
    assert out.endswith("contextree ['a b', '*', '$x'] all of stdin\n"), out


def test_python3_is_taken(host):
    host.link("python3")
    host.link("python3.12")
    host.link("python")
    took(host.run(), "python3", host)


@pytest.mark.parametrize("name", ["python3.16", "python3.10", "python3.6", "python"])
def test_another_name_is_found(host, name):
    host.link(name)
    took(host.run(), name, host)


def test_the_newest_name_is_taken(host):
    for minor in (6, 9, 13):
        host.link("python3.%d" % minor)
    took(host.run(), "python3.13", host)


@pytest.mark.parametrize("old", ["python3.5", "python3.4m", "python3.0", "python2.7", "python2"])
def test_one_that_is_too_old_by_what_it_leads_to_is_passed_over(host, old):
    host.write(old, "never run")
    host.link("python3", old)
    host.link("python3.8")
    took(host.run(), "python3.8", host)


def test_a_shim_that_does_not_run_is_passed_over(host):
    host.write("python3", SHIM)
    host.write("python3.13", SHIM)
    host.link("python3.7")
    took(host.run(), "python3.7", host)


def test_a_script_that_is_too_old_is_passed_over(host):
    host.write("python3", "#!/bin/sh\nexit 1\n")  # as Python 2.7 ends, asked whether it is new enough
    host.link("python")
    took(host.run(), "python", host)


def test_a_script_that_runs_is_taken(host):
    host.write("python3", '#!/bin/sh\nexec %s "$@"\n' % REAL)
    out, err, status = host.run()
    assert (err, status) == ("", 0)
    assert out.endswith("contextree ['a b', '*', '$x'] all of stdin\n")


def test_without_readlink(host):
    (host.folder / "readlink").unlink()
    host.link("python3")
    took(host.run(), "python3", host)
    (host.folder / "python3").unlink()
    host.write("python3", SHIM)
    host.link("python3.9")
    took(host.run(), "python3.9", host)


def test_a_folder_with_blanks_and_stars(host):
    folder = host.folder / "a b *"
    folder.mkdir()
    (folder / "python3").symlink_to(REAL)
    out, err, status = host.run("%s:%s" % (host.folder, folder))
    assert (err, status) == ("", 0)
    assert out.startswith("%s/python3 " % folder)


@pytest.mark.skipif(not os.path.exists("/usr/bin/python3"), reason="no /usr/bin/python3 on this machine")
def test_an_empty_path(host):
    host.fixed = True
    out, err, status = host.run("")
    assert (err, status) == ("", 0)
    assert "contextree ['a b'" in out


def test_the_error_says_what_was_looked_for_what_was_too_old_and_what_did_not_run(host):
    host.write("python2.7", "never run")
    host.link("python", "python2.7")
    host.write("python3", SHIM)
    host.write("python3.5", "never run")
    host.link("python3.11", "python3.5")
    out, err, status = host.run()
    folder = host.folder
    assert (out, status) == ("", 127)
    assert err == ("contextree: no Python 3.6 or newer: looked for python3, python3.16 to python3.6, "
                   "/usr/libexec/platform-python, /usr/local/bin/python3, /usr/bin/python3, "
                   f"/opt/homebrew/bin/python3, python; too old: {folder}/python3.11 {folder}/python; "
                   f"does not run: {folder}/python3; PATH={folder}\n")
    assert discover.not_found("noise\n" + err + "more") == err[len("contextree: "):-1] + "; say which by python="
    error, message, phase = ssh.plan("web1").explain(127, err)
    assert (error, phase) == ("ConnectError", "boot")
    assert message.startswith("the host has no Python 3.6 or newer: looked for python3, ")


@pytest.mark.parametrize("minor", ["3.6", "3.8", "3.13"])
def test_real_versions_by_their_names(minor, pythons, tmp_path):
    if minor not in pythons or pythons[minor].origin == "chroot":
        pytest.skip("no Python %s on this machine" % minor)
    host = Host(tmp_path, ["sh"])
    host.link("python" + minor, os.path.realpath(pythons[minor].argv[0]))
    out, err, status = host.run()
    assert (err, status) == ("", 0)
    assert "(%s)" % minor.replace(".", ", ") in out


PLATFORM = """
set -e
/usr/bin/mount -t tmpfs tmpfs /usr/libexec
/usr/bin/ln -s "$1" /usr/libexec/platform-python
shift
exec "$@"
"""


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.isdir("/usr/libexec"), reason="needs root and /usr/libexec")
def test_platform_python(tmp_path):
    """RHEL 8 has this one alone; here it stands before the system's own."""
    host = Host(tmp_path, ["sh"])
    host.fixed = True
    host.shell = [shutil.which("unshare"), "--mount", "/bin/sh", "-c", PLATFORM, "sh", REAL, "/bin/sh"]
    out, err, status = host.run()
    assert (err, status) == ("", 0)
    assert out.startswith("/usr/libexec/platform-python ")


def test_the_words_suit_every_login_shell():
    assert quote(discover.WORDS)
    assert max(map(len, discover.WORDS)) < 1000
    assert discover.NAMES[1] == "python3.16" and discover.NAMES[11] == "python3.6"


def test_no_env_before_it():
    for placeholder in (PYTHON_SAFE, PYTHON_QUOTED):
        assert "env" not in command(Plan([placeholder], "x", "x", python=discover.WORDS), ["-c", "x"])[0][:4]
        assert command(Plan([placeholder], "x", "x"), ["-c", "x"])[0][:3] == "env"


def test_it_is_the_default():
    assert tuple(ssh.plan("web1").python) == discover.WORDS
