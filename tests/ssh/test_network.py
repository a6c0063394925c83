"""A network that is cut without a word: both ends notice soon; a master that is merely stopped is no reason."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

import contextree
from contextree.parent.linkwatch import packed, retransmissions, unhex
from tests.lab import processes
from tests.lab.network import Network
from tests.lab.poll import until
from tests.lab.sshd import CannotStart


@pytest.fixture(scope="module")
def network(sshd):
    """A host behind a network of its own."""
    try:
        net = Network(sshd, {"host": "client"})
    except CannotStart as error:
        pytest.skip(str(error))
    yield net
    net.down()


@pytest.fixture(autouse=True)
def line(request):
    """The line is whole after each test that has a network."""
    yield
    if "network" in request.fixturenames:
        request.getfixturevalue("network").restore()


def test_a_cut_network_is_noticed_at_both_ends(router, network):
    web = router.ssh("host", ssh=network.ssh, ssh_config=network.ssh_config)
    below = web.fork()
    busy = web.submit(signal.pause)
    identities = [processes.identity(context.pid) for context in (web, below)]
    assert all(identities)
    network.cut()
    start = time.monotonic()
    error = busy.exception(15)
    assert type(error) is contextree.ContextDied
    assert "the host or the network to it does not answer" in str(error) and "ssh.host" in str(error)
    assert web.state == below.state == "died"
    here = time.monotonic() - start
    until(lambda: not any(processes.alive(who) for who in identities), "the other end to notice", 15)
    there = time.monotonic() - start
    assert here < 10 and there < 12, (here, there)  # 4 s and the look of each second, 2 s for the busy call; with room


def test_without_a_network_there_is_no_connection(router, network):
    network.cut()
    with pytest.raises(contextree.ConnectTimeout):
        router.ssh("host", ssh=network.ssh, ssh_config=network.ssh_config, connect_timeout={"connect": 1})


def test_s_28_link_local_address_with_its_scope(router, network, sshd, tmp_path):
    """From the neighbour of the host."""
    if not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("no IPv6 on this machine")

    far = network.hosts["host"]
    device = far.wire.right  # that is its name on both sides

    def ready():
        said = subprocess.run(["ip", "-n", far.name, "-6", "-o", "addr", "show", "dev", device, "scope", "link",
                               "-tentative"], stdout=subprocess.PIPE, text=True).stdout.split()
        return said[said.index("inet6") + 1].partition("/")[0] if "inet6" in said else None

    address = until(ready, "the link-local address", 20) + "%" + device
    known = tmp_path / "known"
    known.write_text("%s %s" % (address, pathlib.Path(sshd.daemons["plain"]["key"] + ".pub").read_text()))
    options = {"ssh": ["ip", "netns", "exec", far.wire.namespace.name, "ssh"], "ssh_config": "/dev/null",
               "known_hosts": known, "identity_file": sshd.key, "extra_args": ["-o", "IdentityAgent=none"]}
    for host in (address, "[%s]" % address, "%s@[%s]" % (sshd.key_user, address)):
        with router.ssh(host, user=sshd.key_user, **options) as web:
            assert "%" in web.call(os.getenv, "SSH_CONNECTION")
            assert web.name == "ssh." + address.replace("%", "_")


MASTER = """
import os, sys, contextree
if __name__ == "__main__":
    with contextree.Router() as router:
        web = router.ssh("key", ssh_config=sys.argv[1], keepalive=1, keepalive_count=1)
        print(web.pid, router.engine.children[web.id].process.pid, flush=True)
        sys.stdin.readline()
        print(web.call(os.getpid), flush=True)
"""


def test_a_master_that_is_stopped_is_not_dead(sshd, tmp_path):
    """For longer than the silence that is allowed: its kernel acknowledges what it does not read."""
    script = tmp_path / "master.py"
    script.write_text(MASTER)
    with subprocess.Popen([sys.executable, str(script), sshd.ssh_config], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as master:
        pid, ssh = [int(word) for word in master.stdout.readline().split()]
        web = processes.identity(pid)
        for who in (master.pid, ssh):
            os.kill(who, signal.SIGSTOP)
        begin = time.monotonic()
        until(lambda: time.monotonic() > begin + 4.5 or not processes.alive(web), "the end of the silence", 30)
        for who in (ssh, master.pid):
            os.kill(who, signal.SIGCONT)
        said, _ = master.communicate("\n", 30)
        assert int(said) == pid
        assert master.returncode == 0


# -- what the kernel says

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 0202 4D0A:0016 broken
   2: 02024D0A:0016 01014D0A:C350 01 00000024:00000000 01:00000011 0000000c     0        0 2
   3: 02024D0A:0016 01014D0A:C351 01 00000000:00000000 02:00000011 00000000     0        0 3
"""
TCP6 = """\
  sl  local_address remote_address st tx rx tr tm->when retrnsmt
   0: 0000000000000000FFFF000002024D0A:0016 0000000000000000FFFF000001014D0A:C352 01 24:0 01:11 00000004
   1: B80D0120000000000000000001000000:0016 B80D0120000000000000000002000000:C353 01 24:0 01:11 00000005
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="the sample is of a little-endian machine")
@pytest.mark.parametrize("connection, count", [
    ("10.77.1.1 50000 10.77.2.2 22", 12), ("10.77.1.1 50001 10.77.2.2 22", 0), ("10.77.1.1 50002 10.77.2.2 22", 4),
    ("2001:db8::2 50003 2001:db8::1 22", 5), ("2001:db8::2%eth0 50003 2001:db8::1%eth0 22", 5),
    ("10.77.1.9 50000 10.77.2.2 22", None), ("10.77.1.1 50009 10.77.2.2 22", None), ("", None), ("a b c d", None),
    ("UNKNOWN 65535 UNKNOWN 65535", None), ("x 50000 y 22", None),
])
def test_retransmissions_of_one_connection(tmp_path, connection, count):
    (tmp_path / "tcp").write_text(TCP)
    (tmp_path / "tcp6").write_text(TCP6)
    assert retransmissions(connection, str(tmp_path)) == count


def test_the_kernel_names_a_real_connection():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        peer, _ = server.accept()
        with peer:
            words = [*client.getsockname(), *server.getsockname()]
            assert retransmissions("%s %s %s %s" % tuple(words)) == 0
    assert retransmissions("127.0.0.1 1 127.0.0.1 2") is None
    assert retransmissions("127.0.0.1 1 127.0.0.1 2", "/no/such/folder") is None


def test_addresses_are_compared_as_bytes():
    assert packed("10.77.2.2") == packed("::ffff:10.77.2.2")
    assert len(unhex("0" * 32 + ":0016")) == len(unhex("0" * 8 + ":0016")) == 16
