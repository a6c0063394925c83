"""Contexts behind ssh: nested, many at once, killed at every joint, large transfers, results that nobody trusts."""

import hashlib
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import contextree
from tests.lab import processes
from tests.lab.poll import until


def gone(identities):
    until(lambda: not any(processes.alive(who) for who in identities), "the subtree to end", 5.0)


def test_fork_local_and_ssh_below_ssh(router, reach, sshd):
    with reach("key", user="root") as web:
        fork = web.fork()
        local = router.local(via=web)
        inner = local.ssh("key", ssh_config=sshd.ssh_config)
        names = {"ssh.key": web, "ssh.key.local": local, "ssh.key.local.ssh.key": inner,
                 "ssh.key.fork.%d" % fork.id: fork}
        for name, context in names.items():
            assert context.name == name == router.context_by_id(context.id).name
            assert context.call(os.getpid) == context.pid
        assert fork.call(os.getppid) != web.pid  # the template's
        assert local.call(os.getppid) == web.pid
        assert inner.call(os.getuid) != web.call(os.getuid) == 0
        text = router.tree()
        assert text.index("ssh.key.local ") < text.index("ssh.key.local.ssh.key ")


def test_ssh_from_a_remote_context_by_via_is_the_same(router, reach, sshd):
    config = sshd.ssh_config
    with reach("key", user="root") as web, router.ssh("key", via=web, ssh_config=config, name="inner") as inner:
        assert inner.name == "ssh.key.inner"
        assert inner.parent is web
        with pytest.raises(contextree.ConnectError, match="has no such Python") as caught:
            web.ssh("key", ssh_config=sshd.ssh_config, python="/no/python")
        assert (caught.value.phase, caught.value.status) == ("boot", 127)
        assert inner.call(sum, [1, 2]) == 3


def test_ten_levels_deep(router, reach, sshd):
    with reach("key", user="root") as top:
        chain = [top]
        for level in range(9):
            below = chain[-1]
            chain.append(below.fork(name="f") if level % 3 == 0 else below.local(name="l") if level % 3 == 1
                         else below.ssh("key", user="root", ssh_config=sshd.ssh_config, name="s"))
        assert chain[-1].name == "ssh.key.f.l.s.f.l.s.f.l.s"
        assert [context.call(os.getpid) for context in chain] == [context.pid for context in chain]
        assert chain[-1].call(len, b"x" * 300000) == 300000
        assert chain[-1].ping(5) < 5
        ends = [processes.identity(context.pid) for context in chain]
    gone(ends)


def test_two_masters_at_once(router, sshd):
    with contextree.Router() as other:
        one, two = (root.ssh("key", ssh_config=sshd.ssh_config) for root in (router, other))
        assert one.call(os.getpid) != two.call(os.getpid)
        assert one.id == two.id
        other.close()
        assert one.call(sum, [4, 4]) == 8


def test_twenty_in_parallel(router, reach):
    with ThreadPoolExecutor(20) as pool:
        webs = list(pool.map(lambda number: reach(name="web%d" % number), range(20)))
        assert len({web.call(os.getpid) for web in webs}) == 20
        list(pool.map(lambda web: web.shutdown(), webs))
    assert router.contexts == []


@pytest.mark.parametrize("victim", ["ssh", "session", "python"])
def test_p_02_kill_a_joint_and_the_waiters_know_what_ended_and_where(router, reach, victim):
    web = reach()
    below = web.local()
    identities = [processes.identity(context.pid) for context in (web, below)]
    futures = [context.submit(signal.pause) for context in (web, below)]
    ssh = router.engine.children[web.id].process.pid
    os.kill({"ssh": ssh, "session": processes.stat(web.pid)[0], "python": web.pid}[victim], signal.SIGKILL)
    errors = [future.exception(20) for future in futures]
    assert [type(error) for error in errors] == [contextree.ContextDied] * 2
    assert [error.context for error in errors] == ["ssh.key", "ssh.key.local"]
    assert "ssh.key ended" in str(errors[0]) or "ssh.key.local ended with ssh.key" in str(errors[1])
    assert "ssh.key" in str(errors[1])
    told = {"ssh": "its process (ssh) killed by SIGKILL (9)", "session": "its process (ssh) exited with status",
            "python": "its process (ssh) exited with status"}[victim]
    assert told in str(errors[0]), str(errors[0])
    gone(identities)
    assert router.contexts == []


def digest(data):
    return hashlib.sha256(data).hexdigest(), data[::-1]


def test_large_transfers_both_ways(reach):
    data = os.urandom(1 << 20) * 24
    with reach() as web:
        name, back = web.call(digest, data)
        assert name == hashlib.sha256(data).hexdigest()
        assert back == data[::-1]
        assert web.call(sum, [1, 1]) == 2


class Evil:
    def __reduce__(self):
        return os._exit, (3,)


def make_evil():
    return Evil()


def test_s_01_results_of_a_host_are_plain_data_and_never_unpickled(reach):
    with reach() as web:
        assert web.call(dict, a=(1, {2}, b"3", None, 4.5)) == {"a": (1, {2}, b"3", None, 4.5)}
        with pytest.raises(contextree.NotSendable, match="Evil"):
            web.call(make_evil)
        assert web.call(sum, [1, 1]) == 2


FAKE_SSH = """
import os, struct, subprocess, sys
def read(count):
    data = b""
    while len(data) < count:
        more = os.read(0, count - len(data))
        if not more:
            sys.exit(9)
        data += more
    return data
seen = b""
for what in "bundle", "configuration":
    head = read(4)
    seen += head + read(struct.unpack("!I", head)[0])
frame = read(20)
seen += frame + read(struct.unpack("!I", frame[16:])[0])
os.write(2, b"a frame of kind %d came before anything was started\\n" % (frame[0] & 15))
child = subprocess.Popen(["sh", "-c", sys.argv[-1]], stdin=subprocess.PIPE)
child.stdin.write(seen)
child.stdin.flush()
while True:
    data = os.read(0, 65536)
    if not data:
        break
    child.stdin.write(data)
    child.stdin.flush()
child.stdin.close()
sys.exit(child.wait())
"""


def test_nothing_waits_for_hello(router, tmp_path, caplog):
    """The program that stands for ssh starts no Python until bundle, configuration and the first call are there."""
    caplog.set_level("DEBUG")
    program = tmp_path / "ssh.py"
    program.write_text(FAKE_SSH)
    web = router.ssh("host", ssh=[sys.executable, str(program)], python=sys.executable, wait=False)
    assert web.submit(sum, [20, 22]).result(20) == 42
    until(lambda: "a frame of kind 2 came before anything was started" in caplog.text, "its line")
    web.shutdown()


def test_calls_from_many_threads_share_a_host(reach):
    with reach() as web:
        answers = []
        threads = [threading.Thread(target=lambda number=number: answers.append(web.call(sum, [number, 1])))
                   for number in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == list(range(1, 31))
