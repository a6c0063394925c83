"""A module that only looks is run again and again by one process: each run is as the first, what is left ends it, and
where it cannot answer the module runs as any other."""

import concurrent.futures
import contextlib
import os
import signal
import zipfile

import pytest

import contextree
from ansible_plugin.controller import looks
from tests.ansible import warm_side
from tests.ansible.payloads import of
from tests.lab import processes
from tests.lab.poll import until

# One that says who it is, and does what its arguments say.
SOURCE = """module = AnsibleModule()
exec(module.params.get("do", ""))
print(os.getpid(), os.environ.get("CTXT"), os.getcwd())
sys.exit(0)
"""


def call(do="", **task):
    """The arguments of ``run``."""
    params = '{"ANSIBLE_MODULE_ARGS": {"do": "%s"}}' % do
    digest, data, found = of(SOURCE, params=params)
    return digest, data, dict(found, again=True, **task)


def words(result):
    """What it says of itself: (process, variable, folder)."""
    assert (result[0], result[2]) == (0, b""), result
    pid, variable, folder = result[1].split()[-3:]
    return int(pid), variable.decode(), folder.decode()


def helper(side):
    """The process that does it again, once there is one."""
    def twice():
        first, second = (words(side.call(warm_side.run, *call()))[0] for _ in range(2))
        return first if first == second else None

    return until(twice, "a process that does it again")


def test_it_is_one_process(side, tmp_path):
    """Environment and folder are each task's own."""
    pid = helper(side)
    before = words(side.call(warm_side.run, *call()))
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        given = words(side.call(warm_side.run, *call(env={"CTXT": str(number)}, cwd=str(folder))))
        assert given == (pid, str(number), str(folder))
    assert words(side.call(warm_side.run, *call())) == before
    assert before[:2] == (pid, "None")


LEFT = [
    "import signal; signal.signal(signal.SIGALRM, signal.SIG_IGN)", "sys.left = os.open('/', 0)",
    "sys.path.append('/nowhere')", "import ansible; ansible.left = 1",
    "from ansible.module_utils import basic; basic.AnsibleModule.left = 1", "sys.modules['left'] = os",
    "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
    "sys.left = os.fork() or (os.setsid(), os.closerange(0, 3), os._exit(0))",
    "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])",
    "import warnings; warnings.resetwarnings()",
]


@pytest.mark.parametrize("do", LEFT)
def test_what_leaves_something_is_its_last(side, do):
    """The next one is run by another."""
    pid = helper(side)
    assert words(side.call(warm_side.run, *call(do)))
    assert words(side.call(warm_side.run, *call()))[0] != pid
    assert helper(side) != pid


def test_what_says_something_on_standard_error_is_its_last(side):
    """Or raises, or exits in its own way; and its results are those of a fork."""
    for do in "sys.stderr.write('x')", "raise ValueError(1)", "sys.exit('no')", "sys.exit(3)", "os._exit(4)":
        fresh = side.call(warm_side.run, *call(do)[:2], dict(call(do)[2], again=False))
        helper(side)
        ours = side.call(warm_side.run, *call(do))
        assert (ours[0], ours[1].split()[1:], ours[2]) == (fresh[0], fresh[1].split()[1:], fresh[2])


def test_more_than_goes_in_a_message(side):
    """It is run as any other."""
    helper(side)
    out = side.call(warm_side.run, *call("sys.stdout.write('x' * 300000)"))[1]
    assert out.startswith(b"x" * 300000)
    assert words(side.call(warm_side.run, *call("#" * 100000)))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_it_is_killed_or_stopped(side, number):
    """Before it is asked, and while it runs: nobody sees that, and nobody waits for one that is stopped."""
    for early in True, False:
        pid = helper(side)
        if early:
            os.kill(pid, number)
        do = "os.getpid() == %d and os.kill(%d, %d)" % (pid, pid, number)
        assert words(side.call(warm_side.run, *call(do)))[0] != pid


def test_one_that_hangs_blocks_nobody_and_is_cancelled(side, tmp_path):
    """With what it has started."""
    path = tmp_path / "pids"
    pid = helper(side)
    hangs = ("import time, subprocess; child = subprocess.Popen(['sleep', '1000']); "
             "open('%s', 'w').write('%%d %%d.' %% (os.getpid(), child.pid)); time.sleep(1000)" % path)
    future = side.submit(warm_side.run, *call(hangs))
    pids = until(lambda: path.exists() and path.read_text().endswith(".") and path.read_text()[:-1], "it").split()
    assert int(pids[0]) == pid
    for _ in range(3):
        assert words(side.call(warm_side.run, *call()))[0] != pid
    identities = [processes.identity(int(each)) for each in pids]
    future.cancel()
    until(lambda: not any(processes.alive(each) for each in identities), "it to be killed")
    with pytest.raises((concurrent.futures.CancelledError, contextree.ContextreeError)):
        future.result(20)
    until(lambda: side.call(warm_side.busy) == 0, "the run to be given up")
    assert helper(side) != pid


@pytest.mark.parametrize("who", ["agent", "template"])
def test_it_ends_with_its_template(who):
    """However that ends."""
    with contextree.Router() as router:
        context = router.local()
        found = helper(context)
        pids = [processes.identity(pid) for pid in [found, *context.call(warm_side.pids)]]
        os.kill(context.call(os.getpid) if who == "agent" else pids[-1][0], signal.SIGKILL)
        if who == "template":  # it is asked once more
            until(lambda: not processes.alive(pids[1]), "the template to end")
            assert words(context.call(warm_side.run, *call()))[0] != found
        until(lambda: not any(processes.alive(pid) for pid in pids), "template and helper to end")


def test_it_holds_nothing(side):
    """But its input, its outputs, and the socket at which it waits; once it has looked at itself after a run."""
    folder = "/proc/%d/fd/" % helper(side)

    def held():
        with contextlib.suppress(FileNotFoundError):  # it is looking
            return sorted(os.readlink(folder + name).split(":")[0] for name in os.listdir(folder))
        return []

    until(lambda: len(held()) == 4, "it to hold its four alone")
    assert held()[2:] == ["pipe", "socket"]


def test_only_what_is_cores_own(tmp_path, monkeypatch):
    """All of an archive's files must be those of the installed core."""
    core = {"ansible/__init__.py": b"__version__ = 'long'\n", "ansible/modules/__init__.py": b"",
            "ansible/modules/stat.py": b"# stat\n", "ansible/modules/file.py": b"# file\n",
            "ansible/module_utils/__init__.py": b"", "ansible/module_utils/basic.py": b"# basic\n"}
    for name, data in core.items():
        path = tmp_path / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    monkeypatch.setattr(looks.importlib.util, "find_spec", lambda name: looks.importlib.machinery.ModuleSpec(
        name, None, origin=str(tmp_path / "lib" / name / "__init__.py")))
    stat = {name: data for name, data in core.items() if name != "ansible/modules/file.py"}
    stat["ansible/__init__.py"] = b"__version__ = 'short'\n"

    def said(files):
        path = tmp_path / "archive.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return looks.is_stat(path.read_bytes())

    assert said(stat)
    assert not said({**stat, "ansible/modules/stat.py": b"# another\n"})
    assert not said({**stat, "ansible/module_utils/basic.py": b"# another\n"})
    assert not said({**stat, "ansible/module_utils/more.py": b""})
    assert not said({**stat, "ansible_collections/a/b.py": b""})
    assert not said({**stat, "ansible/../../x.py": b""})
    assert not said({**stat, "ansible/modules/file.py": core["ansible/modules/file.py"]})
    assert not said({name: data for name, data in core.items() if name != "ansible/modules/stat.py"})
    assert not looks.is_stat(b"no zip")
