"""Connections that are shared: through a master that the user has, and never through somebody else's."""

import os
import pathlib
import pwd
import signal
import socket
import subprocess

import pytest

import contextree
from contextree.parent import private
from tests.lab import processes
from tests.lab.poll import until

NOBODY = 65534


@pytest.fixture
def folder(tmp_path):
    """A folder of the user's alone, all the way down from /run."""
    path = pathlib.Path("/run/ctxt-%s-share" % os.path.basename(str(tmp_path))[:20] + str(os.getpid()))
    path.mkdir(mode=0o700)
    yield path
    for name in path.iterdir():
        name.unlink()
    path.rmdir()


@pytest.fixture
def config(odd, folder, tmp_path):
    """An ssh_config whose ControlPath is in that folder, for hosts that are to be shared."""
    path = tmp_path / "config"
    text = pathlib.Path(odd.ssh_config).read_text().replace("  ControlMaster no\n  ControlPath none\n", "")
    path.write_text("Host *\n  ControlMaster auto\n  ControlPersist 60\n  ControlPath %s/%%C\n" % folder + text)
    return path


class Master:
    """A connection of the user's, with its socket."""

    def __init__(self, config, folder, host="free"):
        self.process = subprocess.Popen(["ssh", "-F", str(config), "-o", "ControlPersist=no", "-M", "-N", host],
                                        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.path = until(lambda: next((path for path in folder.iterdir() if path.is_socket()
                                        and "." not in path.name), None), "the master")

    def end(self):
        """Tell it to go until it has gone. Once is not enough: clients up to OpenSSH 9.2 at least look at the flag that
        their handler sets and then call poll; a signal between the two is seen when poll returns, which is when
        something else happens."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
        until(self.told, "the master to go", 20, 0.1)

    def told(self):
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.returncode is not None


@pytest.fixture
def master(config, folder):
    """The user's master."""
    one = Master(config, folder)
    yield one
    one.end()


def logins(odd):
    return pathlib.Path(odd.daemons["odd"]["log"]).read_text().count("Accepted publickey")


def connection(web):
    return web.call(os.getenv, "SSH_CONNECTION")


def test_through_the_master_of_the_user_who_keeps_it(far, odd, config, master):
    before = logins(odd)
    with far(ssh_config=config, control_path="config") as web, far(ssh_config=config, control_path="config",
                                                                   name="two") as two:
        assert connection(web) == connection(two)
        assert web.call(len, b"\0\xff\n" * 100_000) == 300_000
        with web.local() as below:
            assert below.call(abs, -1) == 1
    assert logins(odd) == before
    assert master.process.poll() is None
    done = subprocess.run(["ssh", "-F", str(config), "-O", "check", "free"], stdin=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True)
    assert "Master running" in done.stderr
    # killed outright, our end does not take it along
    web = far(ssh_config=config, control_path="config")
    web.shutdown(force=True)
    assert master.process.poll() is None


def test_a_secret_is_not_needed_and_harms_nothing(far, config, master):
    with far(ssh_config=config, control_path="config", password="Canary") as web:
        assert web.call(abs, -1) == 1


def test_without_a_master_we_log_in_and_become_none(far, odd, config, folder):
    before = logins(odd)
    with far(ssh_config=config, control_path="config") as web:
        assert web.call(abs, -1) == 1
        assert list(folder.iterdir()) == []
    assert logins(odd) == before + 1


def test_by_default_no_master_is_used(far, odd, config, master):
    before = logins(odd)
    with far(ssh_config=config) as web:
        assert web.call(abs, -1) == 1
    assert logins(odd) == before + 1


def test_the_master_is_killed_under_us(far, config, master):
    with far(ssh_config=config, control_path="config") as web:
        below = web.local()
        who = processes.identity(web.pid)
        futures = [context.submit(signal.pause) for context in (web, below)]
        master.process.kill()
        for future in futures:
            error = future.exception(20)
            assert type(error) is contextree.ContextDied
            assert "ssh.free" in str(error)
        until(lambda: not processes.alive(who), "the other end to go")


def test_p_51_a_master_that_hangs(far, config, master):
    os.kill(master.process.pid, signal.SIGSTOP)
    with pytest.raises(contextree.ConnectTimeout):
        far(ssh_config=config, control_path="config", connect_timeout=1)


def test_a_socket_that_nobody_listens_at(far, odd, config, folder, master):
    """What a master that was killed leaves: ssh logs in by itself."""
    path = master.path
    master.process.kill()
    master.process.wait(20)
    assert path.is_socket()
    with far(ssh_config=config, control_path="config") as web:
        assert web.call(abs, -1) == 1


def test_a_master_that_has_no_session_left(far, odd, config, folder):
    """MaxSessions 1: ssh is told so, and makes a connection of its own."""
    one = Master(config, folder, "single")
    try:
        with far("single", ssh_config=config, control_path="config") as web:
            first = connection(web)
            with far("single", ssh_config=config, control_path="config", name="two") as two:
                assert connection(two) != first
    finally:
        one.end()


def test_a_path_of_our_own_is_shared_among_us(far, folder, odd):
    before = logins(odd)
    path = folder / "ours-%h"
    with far(control_path=path) as web, far(control_path=path, name="two") as two:
        assert connection(web) == connection(two)
        assert path.with_name("ours-127.0.0.1").is_socket()
    assert logins(odd) == before + 1
    until(lambda: list(folder.iterdir()) == [], "the socket to go")


def test_from_another_context_it_is_looked_at_there(router, far, odd, config, master, folder):
    with router.local() as other:
        with far(ssh_config=config, control_path="config", via=other) as web:
            assert web.call(abs, -1) == 1
        folder.chmod(0o750)
        with pytest.raises(contextree.ConnectError, match="not the user's alone"):
            far(ssh_config=config, control_path="config", via=other)


# -- S-29


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o1777, 0o710, 0o702])
def test_s_29_a_folder_that_others_may_enter_is_refused(far, folder, config, master, mode):
    folder.chmod(mode)
    for options in ({"ssh_config": config, "control_path": "config"}, {"control_path": folder / "x"}):
        with pytest.raises(contextree.ConnectError, match="%04o.*chmod 700" % mode) as caught:
            far(**options)
        assert caught.value.phase == "start"


def test_s_29_a_folder_or_a_socket_of_somebody_else_is_refused(far, folder, config, master):
    os.chown(folder, NOBODY, -1)
    with pytest.raises(contextree.ConnectError, match="owner 65534"):
        far(ssh_config=config, control_path="config")
    os.chown(folder, 0, -1)
    os.chown(master.path, NOBODY, -1, follow_symlinks=False)
    with pytest.raises(contextree.ConnectError, match="it belongs to the user 65534"):
        far(ssh_config=config, control_path="config")


def test_s_29_a_folder_below_one_where_others_may_swap_it_is_refused(folder, tmp_path):
    below = folder / "a"
    below.mkdir(mode=0o700)
    try:
        private.check(str(below / "socket"))
        folder.chmod(0o1777)  # as /tmp is: what is mine stays in its place
        private.check(str(below / "socket"))
        for mode in (0o777, 0o770):
            folder.chmod(mode)
            with pytest.raises(contextree.ConnectError, match="in the place of one below"):
                private.check(str(below / "socket"))
        folder.chmod(0o700)
        os.chown(folder, NOBODY, -1)
        with pytest.raises(contextree.ConnectError, match="in the place of one below"):
            private.check(str(below / "socket"))
    finally:
        below.rmdir()


def test_s_29_what_is_no_socket_of_ours_is_refused(folder):
    path = folder / "socket"
    private.check(str(path))
    with pytest.raises(contextree.ConnectError, match="cannot be looked at"):
        private.check(str(folder / "none" / "socket"))
    path.write_text("")
    with pytest.raises(contextree.ConnectError, match="it is no socket"):
        private.check(str(path))
    path.unlink()
    with socket.socket(socket.AF_UNIX) as planted:
        planted.bind(str(folder / "real"))
        private.check(str(folder / "real"))
        path.symlink_to(folder / "real")
        with pytest.raises(contextree.ConnectError, match="it is no socket"):
            private.check(str(path))


def test_s_29_a_planted_socket_gets_nothing(far, odd, tmp_path):
    """In a folder such as /tmp, by another account: nobody connects to it."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with socket.socket(socket.AF_UNIX) as planted:
        planted.bind(str(shared / "planted"))
        planted.listen()
        planted.setblocking(False)
        os.chown(shared / "planted", NOBODY, -1)
        with pytest.raises(contextree.ConnectError, match="is not used"):
            far(control_path=shared / "planted", password="Canary")
        with pytest.raises(BlockingIOError):
            planted.accept()


def test_a_program_that_cannot_say_where_its_socket_is(far, tmp_path):
    with pytest.raises(contextree.ConnectError, match="says nothing of its control socket") as caught:
        far(ssh="/bin/false", control_path="config")
    assert caught.value.phase == "start"


def test_s_29_nothing_is_forwarded_whatever_ssh_config_says(far, odd, tmp_path, monkeypatch):
    config = tmp_path / "config"
    config.write_text("Host *\n  ForwardAgent yes\n  ForwardX11 yes\n  ForwardX11Trusted yes\n  SetEnv LANG=C\n"
                      "  RemoteForward %d localhost:1\n" % odd.ports["busy"] + pathlib.Path(odd.ssh_config).read_text())
    monkeypatch.setenv("DISPLAY", ":7")
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent"))
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        with far(ssh_config=config) as web:
            environ = web.call(environment)
            assert "SSH_AUTH_SOCK" not in environ and "DISPLAY" not in environ
            assert environ["USER"] == pwd.getpwnam(odd.accounts["free"]).pw_name


def environment():
    return dict(os.environ)
