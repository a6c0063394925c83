"""What becomes of a connection of paramiko: many at once, jumps, new keys, ends of every kind, other loops.

Why this file is long: a test for each way to end, which share their tools."""

import asyncio
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import contextree
from tests.lab import processes
from tests.lab.network import Network
from tests.lab.poll import until
from tests.lab.sshd import CannotStart
from tests.ssh.test_tree import (  # noqa: F401  they are collected here
    test_large_transfers_both_ways,
    test_s_01_results_of_a_host_are_plain_data_and_never_unpickled,
)


@pytest.fixture
def reach(router, sshd):
    """reach(host="key", **options), by paramiko."""
    def go(host="key", **options):
        options.setdefault("ssh_config", sshd.ssh_config)
        return router.ssh(host, transport="paramiko", **options)

    return go


def files():
    return len(os.listdir("/proc/self/fd"))


def test_thirty_hosts_have_a_thread_and_three_descriptors_each(router, reach):
    first = reach(name="first")
    threads, descriptors = threading.active_count(), files()
    with ThreadPoolExecutor(10) as pool:
        webs = list(pool.map(lambda number: reach(name="web%d" % number), range(30)))
        pids = {web.call(os.getpid) for web in webs}
    assert len(pids) == 30
    until(lambda: threading.active_count() <= threads + 30, "those who connected to end")
    assert files() == descriptors + 90
    for web in webs:
        web.shutdown()
    until(lambda: threading.active_count() <= threads, "their threads to end")
    assert files() == descriptors
    assert first.call(abs, -1) == 1


def flood(count):
    for number in range(count):
        sys.stderr.write("line %d\n" % number)
    sys.stderr.flush()
    return count


def test_a_flood_of_stderr_holds_up_nothing(reach):
    with reach() as web:
        assert web.call(flood, 200_000) == 200_000
        assert web.call(abs, -1) == 1


def echo(channel):
    for piece in channel:
        channel.send(piece)


def test_new_keys_while_bytes_flow_both_ways(reach, monkeypatch):
    from contextree.master.paramiko_wire import Quiet

    monkeypatch.setattr(Quiet, "REKEY_BYTES", 1 << 20)
    with reach() as web:
        line = next(iter(web.engine.connections)).line
        first, sessions = line.H, set()
        piece = os.urandom(1 << 18)
        with web.channel() as channel:
            done = web.submit(echo, channel)
            for _number in range(40):
                channel.send(piece)
                assert channel.receive(20) == piece
                sessions.add(line.H)
            channel.send_eof()
            done.result(20)
        assert len(sessions) > 3 and line.session_id not in sessions - {first}
        assert web.call(len, bytes(5_000_000)) == 5_000_000
        assert web.call(bytes, 5_000_000) == bytes(5_000_000)


def produce(count):
    for _number in range(count):
        yield bytes(1 << 16)


def test_b_who_does_not_read_holds_up_nobody_and_costs_no_memory(reach):
    with reach() as slow, reach(name="other") as other:
        stream = slow.stream(produce, 600)
        assert len(next(stream)) == 1 << 16
        assert other.call(abs, -1) == slow.with_options(threads=2).call(abs, -1) == 1
        connection = next(each for each in slow.engine.connections if each.owner.branch.id == slow.id)
        assert len(connection.channel.in_buffer) <= 1 << 21
        assert sum(len(piece) for piece in stream) == 599 << 16


@pytest.mark.parametrize("jump", ["pam", ["pam", "key"], ["key", "pam", "key"]])
def test_jumps(reach, sshd, jump):
    before = threading.active_count()
    with reach("key", jump=jump) as web:
        assert web.call(len, bytes(1 << 20)) == 1 << 20
        assert web.call(bytes, 1 << 20) == bytes(1 << 20)
        hops = 1 if jump == "pam" else len(jump)
        until(lambda: threading.active_count() <= before + 1 + hops, "who connected to end")


def test_jumps_of_ssh_config(reach, sshd, tmp_path):
    config = tmp_path / "config"
    text = pathlib.Path(sshd.ssh_config).read_text()
    config.write_text("Host far\n User %s\n ProxyJump middle\nHost middle\n User %s\n ProxyJump pam\n%s" % (
        sshd.key_user, sshd.key_user, text))
    with reach("far", ssh_config=config) as web:
        assert web.call(abs, -1) == 1
    config.write_text("Host far\n ProxyJump middle\nHost middle\n ProxyJump far\n" + text)
    with pytest.raises(contextree.ConnectError, match="circle"):
        reach("far", ssh_config=config)
    with reach("far", user=sshd.key_user, ssh_config=config, jump="none") as web:
        assert web.call(abs, -1) == 1


def test_s_27_a_jump_host_is_checked_too(reach, sshd, tmp_path):
    text = pathlib.Path(sshd.ssh_config).read_text()
    config, known = tmp_path / "config", tmp_path / "known"
    config.write_text(text.replace(sshd.known_hosts, str(known)))
    for lines, why in ((sshd.known_line("plain"), r"at the jump host pam: .*is not known"),
                       (sshd.known_line("plain") + sshd.known_line("pam", "plain"), "at the jump host pam: .*changed")):
        known.write_text(lines)
        options = {"jump": "pam", "ssh_config": config}
        for policy in ("strict", "off"):  # that is said of the host alone
            with pytest.raises(contextree.HostKeyError, match=why):
                reach("key", host_keys=policy, **options)


def test_the_key_of_a_jump_host_is_stored_too(reach, sshd, tmp_path):
    known = tmp_path / "known"
    with reach("key", jump="pam", known_hosts=known, host_keys="accept-new") as web:
        assert web.call(abs, -1) == 1
    assert len(known.read_text().splitlines()) == 2
    with reach("key", jump="pam", known_hosts=known):
        pass


def test_a_jump_host_that_cannot_go_on(reach, sshd, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(contextree.ConnectError, match="jump host pam cannot connect to 127") as caught:
            reach("key", port=port, jump="pam")
    assert caught.value.phase == "connect"


def test_refused_port(reach):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(contextree.ConnectError, match=rf"nothing listens at 127\.0\.0\.1 port {port}") as caught:
            reach(port=port)
    assert caught.value.phase == "connect"


@pytest.mark.parametrize("what", ["silent", "closes", "http", "half"])
def test_what_is_no_ssh(reach, what):
    said = {"closes": b"", "http": b"HTTP/1.0 400 Bad Request\r\n\r\n", "half": b"SSH-2.0-x\r\n"}.get(what)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve():
            sock, _address = listener.accept()
            with sock:
                sock.sendall(said)

        if said is not None:
            thread = threading.Thread(target=serve)
            thread.start()
        with pytest.raises(contextree.ConnectError) as caught:
            reach(port=listener.getsockname()[1], connect_timeout={"connect": 1})
        assert caught.value.phase == "connect"
        assert (type(caught.value) is contextree.ConnectTimeout) is (what == "silent")
        if said is not None:
            thread.join()


def test_cancelled_while_it_connects(router, reach):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        before = threading.active_count(), files()
        web = reach(port=silent.getsockname()[1], wait=False)
        waiting = web.submit(abs, -1)
        until(lambda: threading.active_count() > before[0], "it to connect")
        web.shutdown(0)
        assert isinstance(waiting.exception(10), contextree.ContextreeError)
        until(lambda: threading.active_count() <= before[0], "the threads to end")
        until(lambda: files() == before[1], "the descriptors to be closed")


def test_the_end_of_the_router_while_it_connects(sshd):
    with socket.create_server(("127.0.0.1", 0)) as silent, contextree.Router() as router:
        web = router.ssh("key", port=silent.getsockname()[1], ssh_config=sshd.ssh_config, transport="paramiko",
                         wait=False)
        waiting = web.submit(abs, -1)
    assert isinstance(waiting.exception(1), contextree.ContextreeError)


def test_interrupted_while_it_connects(sshd, tmp_path):
    script = tmp_path / "master.py"
    script.write_text("""
import contextree, os, sys, threading
if __name__ == "__main__":
    with contextree.Router() as router:
        try:
            router.ssh("x", port=int(sys.argv[1]), ssh_config=sys.argv[2], transport="paramiko")
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        while threading.active_count() > 1:
            pass
        print(len([fd for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)]), flush=True)
""")
    with socket.create_server(("127.0.0.1", 0)) as silent, subprocess.Popen(
            [sys.executable, str(script), str(silent.getsockname()[1]), sshd.ssh_config], stdout=subprocess.PIPE,
            text=True) as master:
        sock, _address = silent.accept()
        with sock:
            sock.recv(100)
            master.send_signal(signal.SIGINT)
            assert master.stdout.readline() == "interrupted\n"
            assert sock.recv(100000) in (b"",) or sock.recv(100000) == b""  # it is closed at once
        assert master.communicate(timeout=20)[0]
        assert master.returncode == 0


@pytest.mark.parametrize("victim", ["session", "python"])
def test_p_02_kill_a_joint_and_the_waiters_know_what_ended_and_where(router, reach, victim):
    web = reach()
    below = web.local()
    identities = [processes.identity(context.pid) for context in (web, below)]
    futures = [context.submit(signal.pause) for context in (web, below)]
    os.kill({"session": processes.stat(web.pid)[0], "python": web.pid}[victim], signal.SIGKILL)
    errors = [future.exception(20) for future in futures]
    assert [type(error) for error in errors] == [contextree.ContextDied] * 2
    assert [error.context for error in errors] == ["ssh.key", "ssh.key.local"]
    told = {"session": "the connection was closed", "python": "its process (ssh) killed by SIGKILL (9)"}[victim]
    assert told in str(errors[0]), str(errors[0])
    until(lambda: not any(processes.alive(who) for who in identities), "the subtree to end")
    assert router.contexts == []


def test_p_04_a_session_that_stands_still(reach):
    web = reach(keepalive=1, keepalive_count=1)
    busy = web.submit(signal.pause)
    session = processes.stat(web.pid)[0]
    who = processes.identity(web.pid)
    os.kill(session, signal.SIGSTOP)
    try:
        error = busy.exception(20)
    finally:
        os.kill(session, signal.SIGCONT)
    assert type(error) is contextree.ContextDied
    assert "the host stopped answering" in str(error)
    until(lambda: not processes.alive(who), "it to end")


MASTER = """
import signal, sys, time, contextree
if __name__ == "__main__":
    with contextree.Router() as router:
        web = router.ssh("host", ssh_config=sys.argv[1], transport="paramiko")
        print(web.call(abs, -1), web.pid, flush=True)
        busy = web.submit(signal.pause)
        print(type(busy.exception(20)).__name__, str(busy.exception()).replace(chr(10), " "), flush=True)
"""


def test_f_06_a_cut_network_is_noticed_at_both_ends(sshd, tmp_path):
    try:
        network = Network(sshd, {"host": "client"})
    except CannotStart as error:
        pytest.skip(str(error))
    script = tmp_path / "master.py"
    script.write_text(MASTER)
    try:
        with subprocess.Popen([*network.ssh[:-1], sys.executable, str(script), network.ssh_config],
                              stdout=subprocess.PIPE, text=True) as master:
            one, pid = master.stdout.readline().split()
            who = processes.identity(int(pid))
            assert one == "1" and who
            network.cut()
            said = master.communicate(timeout=30)[0]
            assert said.startswith("ContextDied") and "stopped answering" in said
            assert master.returncode == 0
            until(lambda: not processes.alive(who), "the other end to notice", 15)
    finally:
        network.restore()
        network.down()


def test_a_fork_of_this_process_has_nothing_of_it(router, reach):
    with reach() as web:
        line = next(iter(router.engine.connections)).line
        held = {os.fstat(fd).st_ino for fd in (line.wire.fd, line.wire.carried[0].fd)}
        with router.fork(direct=True) as child:
            inodes = child.call(lambda: [os.stat("/proc/self/fd/" + fd).st_ino for fd in os.listdir("/proc/self/fd")
                                         if os.path.exists("/proc/self/fd/" + fd)])
            assert not held & set(inodes)
            assert child.call(__import__("gc").collect) >= 0
        assert web.call(abs, -1) == 1


def test_without_a_thread_of_the_router(sshd):
    with contextree.Router(thread=False) as router, router.ssh("key", ssh_config=sshd.ssh_config,
                                                               transport="paramiko") as web:
        assert web.call(bytes, 1 << 20) == bytes(1 << 20)


def test_other_contexts_are_told_what_to_do_instead(router, reach, sshd):
    with router.local() as other, pytest.raises(contextree.UsageError, match=r"jump=.*leave transport= out"):
        other.call(ask_there, sshd.ssh_config)


def ask_there(config):
    contextree.current_router().ssh("key", ssh_config=config, transport="paramiko")


@pytest.mark.parametrize("options", [{"extra_args": ["-v"]}, {"ssh": "/bin/ssh"}, {"control_path": "/tmp/x"},
                                     {"plain_prompts": True}, {"forward_agent": True}])
def test_options_of_the_program_are_refused(router, options):
    with pytest.raises(contextree.UsageError, match="%s= is for the ssh program" % next(iter(options))):
        router.ssh("web1", transport="paramiko", **options)


def test_an_address(router, sshd):
    with router.open("local:/ssh://key?transport=paramiko&ssh_config=%s" % sshd.ssh_config) as web:
        assert web.call(abs, -1) == 1
        assert web.name == "local.ssh.key"


def test_transports_that_there_are(router):
    with pytest.raises(contextree.UsageError, match="'openssh', 'paramiko'"):
        router.ssh("web1", transport="carrier pigeon")


@pytest.mark.parametrize("row", ["ProxyCommand nc %h %p", "CanonicalizeHostname yes", "RevokedHostKeys /etc/revoked",
                                 "KnownHostsCommand /bin/x", "VerifyHostKeyDNS yes", "Match exec true",
                                 "Ciphers chacha20-poly1305@openssh.com"])
def test_what_ssh_config_wants_and_nobody_does_is_said(reach, sshd, tmp_path, row):
    config = tmp_path / "config"
    config.write_text("%s\n%s" % (row, pathlib.Path(sshd.ssh_config).read_text()))
    with pytest.raises(contextree.ConnectError, match="(?i)" + ("Match exec" if "exec" in row else row.split()[0])):
        reach(ssh_config=config)


def test_ssh_config_is_honoured(reach, sshd, tmp_path):
    config = tmp_path / "config"
    (tmp_path / "more").write_text("User %s\nCiphers aes256-ctr\nMACs hmac-sha2-512\nSetEnv LC_X=by-ssh_config\n"
                                   "Compression yes\nAddressFamily inet\nBindAddress 127.0.0.1\n" % sshd.key_user)
    config.write_text("Host alias\n HostName localhost\n HostKeyAlias keys\n Include %s/more\n" % tmp_path
                      + "UserKnownHostsFile %s/known\nIdentityFile %%d/../%s\n" % (tmp_path, sshd.key)
                      + "Port %d\n" % sshd.port)
    (tmp_path / "known").write_text(sshd.known_line().replace("[127.0.0.1]:%d" % sshd.port, "keys"))
    with reach("alias", ssh_config=config) as web:
        line = next(iter(web.engine.connections)).line
        assert (line.local_cipher, line.local_mac) == ("aes256-ctr", "hmac-sha2-512")
        assert web.call(os.getenv, "LC_X") == "by-ssh_config"
    with reach("alias", ssh_config=config, compression=True) as web:
        assert next(iter(web.engine.connections)).line.local_compression == "zlib@openssh.com"
        assert web.call(bytes, 1 << 20) == bytes(1 << 20)


def test_ipv6(reach, sshd, tmp_path):
    """By way of a listener of our own: the lab's sshd is at 127.0.0.1."""
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError as error:
        pytest.skip("no IPv6: %s" % error)
    port = listener.getsockname()[1]
    known = tmp_path / "known"
    known.write_text(sshd.known_line().replace("[127.0.0.1]:%d" % sshd.port, "[::1]:%d" % port))

    def serve():
        sock, _address = listener.accept()
        with sock, socket.create_connection(("127.0.0.1", sshd.port)) as far:
            threads = [threading.Thread(target=pump, args=pair) for pair in ((sock, far), (far, sock))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def pump(one, other):
        while True:
            data = one.recv(65536)
            if not data:
                break
            other.sendall(data)
        try:
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    with reach("::1", port=port, user=sshd.key_user, identity_file=sshd.key, ssh_config="none", known_hosts=known,
               name="six") as web:
        assert web.call(abs, -1) == 1
    thread.join()
    listener.close()


def test_aio(sshd):
    async def main():
        async with contextree.aio.Router() as router:
            webs = await asyncio.gather(*(router.ssh("key", ssh_config=sshd.ssh_config, transport="paramiko",
                                                     name="web%d" % number) for number in range(4)))
            assert len({await web.call(os.getpid) for web in webs}) == 4
            with pytest.raises(contextree.HostKeyError):
                await router.ssh("key", ssh_config=sshd.ssh_config, transport="paramiko", known_hosts="/dev/null")

    asyncio.run(main())


def run(text, *words):
    return subprocess.run([sys.executable, "-c", text, *words], capture_output=True, text=True, timeout=50, check=False)


def test_without_paramiko_it_says_how_to_get_it():
    done = run("import sys; sys.modules['paramiko'] = None\nimport contextree\nwith contextree.Router() as router:\n"
               "    router.ssh('web1', transport='paramiko')")
    assert "UsageError: transport='paramiko' wants the library: pip install 'contextree[paramiko]'" in done.stderr


def test_gi_in_a_patched_program_it_says_what_works_there():
    pytest.importorskip("gevent")
    done = run("from gevent import monkey; monkey.patch_all()\nimport contextree.gevent\n"
               "with contextree.gevent.Router() as router:\n    router.ssh('web1', transport='paramiko')")
    assert "UsageError: transport='paramiko' needs threads, and gevent has replaced them" in done.stderr


def test_gevent_without_patches(sshd):
    pytest.importorskip("gevent")
    done = run("import contextree.gevent, os, sys\nwith contextree.gevent.Router() as router:\n"
               "    web = router.ssh('key', ssh_config=sys.argv[1], transport='paramiko')\n"
               "    print(web.call(abs, -1))", sshd.ssh_config)
    assert done.stdout == "1\n", done.stderr
