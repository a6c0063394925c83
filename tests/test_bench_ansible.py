"""The benchmark of the plugin works: what it counts, compares and says. No Ansible runs here."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests.bench.ansible import __main__ as command
from tests.bench.ansible import sides, table
from tests.bench.ansible.accounting import CannotAccount, Group, Peak
from tests.bench.ansible.cases import CASES
from tests.bench.ansible.contest import Row, Run, tasks_of, tree_of
from tests.lab.poll import until


@pytest.fixture
def group():
    try:
        group = Group("test")
    except CannotAccount as error:
        pytest.skip(str(error))
    yield group
    group.close()
    assert not group.folder.exists()


@pytest.fixture
def proxy():
    """(ask, port, listener): the proxy before a server that we are."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.ansible.proxy", str(listener.getsockname()[1]), "127.0.0.2"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=sides.ROOT,
        )  # fmt: skip
        port = json.loads(process.stdout.readline())[0]

        def ask(line):
            process.stdin.write(line + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield ask, port, listener
        process.stdin.close()
        assert process.wait(10) == 0
        process.stdout.close()


def through(proxy):
    """(near, far): a connection through the proxy."""
    near = socket.create_connection(("127.0.0.2", proxy[1]), 10)
    far = proxy[2].accept()[0]
    far.settimeout(10)
    return near, far


def test_the_proxy_counts_bytes_and_turns(proxy):
    proxy[0]("begin 0")
    near, far = through(proxy)
    with near, far:
        for _ in range(3):
            near.sendall(b"ask")
            assert far.recv(10) == b"ask"
            far.sendall(b"answer")
            assert near.recv(10) == b"answer"
        near.shutdown(socket.SHUT_WR)
        assert far.recv(10) == b""
    assert proxy[0]("end") == {"out": 9, "back": 18, "connections": 1, "turns": 6}


def test_what_crosses_on_its_way_is_one_turn(proxy):
    proxy[0]("begin 0.2")
    near, far = through(proxy)
    with near, far:
        near.sendall(b"1")
        far.sendall(b"2")
        assert near.recv(10) == b"2"
        assert far.recv(10) == b"1"
    assert proxy[0]("end")["turns"] == 1


def test_the_proxy_delays_and_passes_on_all(proxy):
    proxy[0]("begin 0.01")
    near, far = through(proxy)
    data = os.urandom(1 << 20)
    with near, far:
        process = os.fork()
        if process == 0:
            near.sendall(data)
            os._exit(0)
        got = b""
        while len(got) < len(data):
            got += far.recv(1 << 16)
        assert os.waitpid(process, 0)[1] == 0
    assert got == data
    assert proxy[0]("end")["out"] == len(data)


def test_a_group_counts_what_has_left_its_parent(group):
    busy = "import os, time\nos.setsid()\nif os.fork(): os._exit(0)\nwhile time.process_time() < .3: pass"
    subprocess.run(group.words(sys.executable, "-c", busy), check=True, timeout=30)
    until(lambda: not group.members(), "the busy one to end")
    assert sum(group.seconds()) > 0.3


def test_a_group_ends_what_is_left_and_sees_memory(group):
    large = "import os, signal; os.setsid(); data = bytearray(60_000_000); os.write(1, b'.'); signal.pause()"
    with subprocess.Popen(group.words(sys.executable, "-c", large), stdout=subprocess.PIPE) as process:
        with Peak(group, 0.01) as peak:
            assert process.stdout.read(1) == b"."
            until(lambda: peak.value > 60_000_000, "it to be seen")
        assert list(group.members()) == [process.pid]
        group.close()
        assert process.wait(10) == -9


def test_the_output_is_read_whatever_the_order_of_hosts():
    text = "\nTASK [a] ***\nchanged: [h2]\nok: [h1]\n\nTASK [a] *****\nok: [h1]\n\nPLAY RECAP **\nh1 : ok=1\n"
    assert tasks_of(text) == {
        "TASK [a]": ["TASK [a]", "changed: [h2]", "ok: [h1]"],
        "TASK [a] #2": ["TASK [a]", "ok: [h1]"],
        "PLAY RECAP": ["PLAY RECAP", "h1 : ok=1"],
    }


def made(wall=1.0, **other):
    """A Run."""
    counts = {"out": 1000, "back": 500, "turns": 4, "connections": 1}
    fields = {"status": 0, "output": {"TASK": ["ok"]}, "files": {"a": ["0644"]}, "left": [], "said": "", **other}
    return Run(wall, (wall, 0.5), (wall / 2, 0.1), counts, **fields)


def test_who_does_something_else_is_void():
    row = Row("tasks", 5, 1, 0.025)
    row.add("stock", made(8.0))
    row.add("pipelining", made(6.0))
    row.add("mitogen", made(4.0, files={"a": ["0600"]}))
    row.add("strategy", made(2.0))
    row.add("connection", made(3.0, left=["sleep 100"]))
    row.add("connection", made(3.0, status=4, said="it broke"))
    row.add("strategy 2", made(2.0, stock={"no multiplexer": 1}))
    assert set(row.void) == {"mitogen", "connection", "strategy 2"}
    assert "no multiplexer" in row.void["strategy 2"]
    assert "files, a" in row.void["mitogen"] and "left behind: sleep 100" in row.void["connection"]
    assert table.ratio(row, "strategy", "mitogen") is None
    assert table.ratio(row, "strategy", "stock") == 4.0
    said = table.text(row)
    assert "tasks 5, 1 host, 25 ms" in said and "VOID mitogen" in said and "stock/strategy: wall 4.00x" in said
    assert "4.00 (3.40)" in table.markdown([row])
    json.dumps(table.as_dict(row))


def test_a_reference_that_fails_is_void():
    row = Row("tasks", 5, 1, 0)
    row.add("stock", made(status=2, said="no such host"))
    assert "no such host" in row.void["stock"]


def test_a_tree_tells_modes_and_contents(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "file").write_text("x")
    (tmp_path / "below" / "file").chmod(0o640)
    (tmp_path / "link").symlink_to("below")
    before = tree_of(tmp_path)
    assert before["below/file"][0] == "0o100640" and before["link"][3] == "below" and len(before) == 3
    (tmp_path / "below" / "file").write_text("y")
    assert tree_of(tmp_path)["below/file"] != before["below/file"]


@pytest.mark.parametrize("name", CASES)
def test_a_playbook_is_written(name, tmp_path):
    case = CASES[name][0](3)
    case.write(tmp_path)
    plays = json.loads((tmp_path / "play.yml").read_text())
    assert bool(plays) != bool(case.adhoc)
    assert all(play["hosts"] == "all" for play in plays)
    assert case.role == (tmp_path / "roles" / "app" / "tasks" / "main.yml").exists()


def test_arguments(tmp_path, capsys):
    options = command.parse(["--cases", "tasks:5,cold", "--hosts", "1,10", "--delay", "0,25", "--sides", "stock"])
    assert (options.cases, options.delay, options.hosts) == (["tasks:5", "cold"], [0, 0.025], [1, 10])
    with pytest.raises(SystemExit):
        command.parse(["--sides", "nobody"])
    assert "nobody" in capsys.readouterr().err
    assert command.main(["--ansible", str(tmp_path)]) == 1
    assert "ansible-playbook" in capsys.readouterr().out
