"""The search for an interpreter on a real host: in the same round trip, and what the error says."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import contextree
from tests.lab.poll import until
from tests.ssh.test_tree import FAKE_SSH


@pytest.fixture
def path_of(odd, tmp_path_factory):
    """path_of(folder): the PATH that ``free`` has there, for one test; a folder that it may read."""
    folder = pathlib.Path(odd.directory, "bin-" + os.urandom(3).hex())
    folder.mkdir()

    def set_path(path=None):
        odd.authorize('environment="PATH=%s"' % (folder if path is None else path))
        return folder

    yield set_path
    odd.authorize()
    shutil.rmtree(folder)


def script(folder, name, text):
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def test_a_shim_and_an_old_one_are_passed_over(far, path_of):
    folder = path_of()
    for name in ("sh", "env", "readlink"):
        (folder / name).symlink_to(shutil.which(name))
    script(folder, "python3", "#!/bin/sh\necho 'pyenv: python3: command not found' >&2\nexit 127\n")
    script(folder, "python3.5", "never run")
    (folder / "python3.12").symlink_to("python3.5")
    (folder / "python3.11").symlink_to("/usr/bin/python3")
    with far() as web:
        assert web.facts["executable"] == str(folder / "python3.11")
        assert web.call(os.getenv, "PYTHONSAFEPATH") is None
        with web.local() as below:
            assert below.facts["executable"] == web.facts["executable"]


def test_a_path_that_has_nothing(far, path_of):
    """Not even sh: nobody can look for anything."""
    path_of("")
    with pytest.raises(contextree.ConnectError, match="finds neither sh nor env; its PATH there is empty") as caught:
        far()
    assert (caught.value.phase, caught.value.status) == ("boot", 127)
    with pytest.raises(contextree.ConnectError, match="finds neither sh nor env"):
        far(python="/usr/bin/python3")


def test_a_path_with_sh_alone(far, path_of):
    folder = path_of()
    (folder / "sh").symlink_to(shutil.which("sh"))
    with far() as web:
        assert web.facts["executable"] == "/usr/bin/python3"


def test_none_is_found_and_none_is_right(far, odd):
    if "ash" not in odd.accounts:
        pytest.skip("busybox is not installed")
    with pytest.raises(contextree.ConnectError, match=r"no Python 3\.6 or newer: looked for") as caught:
        far("chroot")
    assert caught.value.output.count("contextree: no Python") == 1
    with pytest.raises(contextree.ConnectError, match=r"has no such Python.*/usr/bin/python3.*say which by python="):
        far("chroot", python="/usr/bin/python3")


def test_through_every_login_shell_of_the_lab(reach, sshd):
    for shell in sshd.shell_users:
        with reach(shell) as web:
            assert os.path.basename(web.facts["executable"]).startswith("python3")


def test_it_costs_no_round_trip(router, tmp_path, caplog):
    """The program that stands for ssh runs nothing until all has come that the master sends unasked, the first call
    too; what the search says, if it said anything, would come too late for it."""
    caplog.set_level("DEBUG")
    program = tmp_path / "ssh.py"
    program.write_text(FAKE_SSH)
    web = router.ssh("host", ssh=[sys.executable, str(program)], wait=False)
    assert web.submit(sum, [20, 22]).result(20) == 42
    until(lambda: "a frame of kind 2 came before anything was started" in caplog.text, "its line")
    assert "contextree:" not in caplog.text.replace("contextree: python runs", "")
    web.shutdown()


@pytest.mark.parametrize("shell", ["bash", "zsh", "mksh", "csh", "tcsh", "fish", "rbash", "dash"])
def test_no_shell_finds_sh_in_an_empty_path(far, odd, path_of, shell):
    """Each says it in words of its own; fish shows the whole command."""
    program = shutil.which("bsd-csh" if shell == "csh" else shell)
    if program is None:
        pytest.skip("%s is not installed" % shell)
    path_of("/nowhere")
    subprocess.run(["usermod", "-s", program, odd.accounts["free"]], check=True, stdin=subprocess.DEVNULL)
    try:
        for python in (None, "/usr/bin/python3"):
            with pytest.raises(contextree.ConnectError, match="finds neither sh nor env") as caught:
                far(python=python)
            assert type(caught.value) is contextree.ConnectError
            assert caught.value.phase == "boot"
    finally:
        subprocess.run(["usermod", "-s", "/bin/sh", odd.accounts["free"]], check=True, stdin=subprocess.DEVNULL)
