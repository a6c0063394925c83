"""paramiko's transport from other contexts: the TCP connection starts there, the child is theirs."""

import asyncio
import os
import pathlib
import signal
import socket
import threading

import pytest

import contextree
from tests.lab import processes
from tests.lab.poll import until


@pytest.fixture
def between(router):
    """Another context of this machine."""
    with router.local(name="between") as context:
        yield context


@pytest.fixture
def reach(router, sshd, between):
    """reach(host="key", **options), by paramiko from there."""
    def go(host="key", **options):
        options.setdefault("ssh_config", sshd.ssh_config)
        options.setdefault("via", between)
        return router.ssh(host, transport="paramiko", **options)

    return go


def has_peer(port):
    """Has this very process a connection to that port?"""
    rows = pathlib.Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    mine = {os.readlink("/proc/self/fd/" + fd) for fd in os.listdir("/proc/self/fd")
            if os.path.lexists("/proc/self/fd/" + fd)}
    return any(row.split()[2].endswith(":%04X" % port) and "socket:[%s]" % row.split()[9] in mine for row in rows)


def test_it_is_the_others_child_and_goes_out_from_there(router, reach, between, sshd):
    with reach() as web:
        assert web.name == "between.ssh.key" and web.parent is between
        assert between.call(has_peer, sshd.port) and not has_peer(sshd.port)
        assert web.call(len, bytes(3_000_000)) == 3_000_000
        assert web.call(bytes, 3_000_000) == bytes(3_000_000)
        with web.fork() as below:
            assert below.call(abs, -2) == 2
    with between.ssh("key", ssh_config=sshd.ssh_config, transport="paramiko", name="again") as web:
        assert web.call(abs, -1) == 1
    assert router.contexts == [between]


def test_two_hosts_on_the_way(router, reach, sshd):
    with reach(name="one", user="root") as one, reach(via=one, name="two") as two, two.local(name="l") as local:
        assert local.name == "between.one.two.l"
        assert one.call(os.getuid) == 0 != two.call(os.getuid) == local.call(os.getuid)


def test_from_a_host_that_was_reached_by_the_program(router, reach, sshd):
    with router.ssh("key", ssh_config=sshd.ssh_config) as web, reach(via=web) as inner:
        assert inner.name == "ssh.key.ssh.key" and inner.call(abs, -1) == 1


def test_errors_are_those_of_the_connection(router, reach, between, tmp_path):
    with pytest.raises(contextree.HostKeyError, match="is not known"):
        reach(known_hosts=tmp_path / "none")
    with pytest.raises(contextree.AuthenticationError, match="was refused"):
        reach(user="nobody-here")
    with pytest.raises(contextree.ConnectError, match="has no such Python"):
        reach(python="/no/python")
    with pytest.raises(contextree.ConnectError, match=r"no-such-host\.invalid"):
        reach("no-such-host.invalid", ssh_config="none")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(contextree.ConnectError, match="nothing listens") as caught:
            reach(port=taken.getsockname()[1])
    assert caught.value.phase == "connect"
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(contextree.ConnectTimeout):
        reach(port=silent.getsockname()[1], connect_timeout={"connect": 1})
    assert between.call(abs, -1) == 1


@pytest.mark.parametrize("victim", ["between", "web", "session"])
def test_p_02_an_end_on_the_way_is_told(router, reach, between, victim):
    threads = threading.active_count()
    web = reach()
    who = processes.identity(web.pid)
    busy = web.submit(signal.pause)
    pid = {"between": between.pid, "web": web.pid, "session": processes.stat(web.pid)[0]}[victim]
    os.kill(pid, signal.SIGKILL)
    error = busy.exception(20)
    assert type(error) is contextree.ContextDied
    assert {"between": "between", "web": "killed by SIGKILL", "session": "closed"}[victim] in str(error)
    until(lambda: not processes.alive(who), "it to end")
    until(lambda: not router.engine.connections and threading.active_count() <= threads, "the connection to end")
    until(lambda: not router.engine.tubes, "the tubes to be closed")


def test_shut_down_from_here(router, reach, between):
    web = reach()
    who = processes.identity(web.pid)
    between.shutdown()
    assert web.state == "died"
    until(lambda: not processes.alive(who), "it to end")


def test_flood_and_slow_reader(reach):
    with reach() as web:
        stream = web.stream(produce, 200)
        assert len(next(stream)) == 1 << 16
        assert web.with_options(threads=2).call(abs, -1) == 1
        assert sum(len(piece) for piece in stream) == 199 << 16


def produce(count):
    for _number in range(count):
        yield bytes(1 << 16)


def test_aio(sshd):
    async def main():
        async with contextree.aio.Router() as router:
            between = await router.local()
            web = await router.ssh("key", via=between, ssh_config=sshd.ssh_config, transport="paramiko")
            assert await web.call(abs, -1) == 1
            with socket.create_server(("127.0.0.1", 0)) as silent:
                opening = asyncio.ensure_future(router.ssh("key", via=between, ssh_config=sshd.ssh_config,
                                                           transport="paramiko", port=silent.getsockname()[1]))
                sock, _address = await asyncio.to_thread(silent.accept)
                opening.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await opening
                sock.close()
            assert await web.call(abs, -2) == 2

    asyncio.run(main())
