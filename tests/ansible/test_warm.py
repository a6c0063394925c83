"""Modules in forks of the warm template give what they give in a Python of their own, as stock starts it.

Each module here is run in both ways, in the same context; status, standard output and error are compared.
"""

import re

import pytest

from ansible_plugin.controller import payload
from tests.ansible import payloads, warm_side
from tests.ansible.conftest import close, some_pythons
from tests.ansible.payloads import HEAD
from tests.lab import pythons

SAME = [
    # how it ends
    "AnsibleModule().exit_json(changed=True, got=AnsibleModule().params)",
    "sys.exit(3)", "sys.exit(-1)", "sys.exit(261)", "sys.exit(None)", "sys.exit('no\\u20ac')", "sys.exit((1, 2))",
    "sys.exit(True)", "os._exit(7)", "raise SystemExit", "exit(4)",
    "print('a'); sys.stdout.flush(); os.kill(os.getpid(), signal.SIGKILL)",
    "print('a', flush=True); os.kill(os.getpid(), signal.SIGTERM)",
    "print('lost'); os.kill(os.getpid(), signal.SIGHUP)",
    "print('a', flush=True); os.kill(os.getpid(), signal.SIGUSR1)",
    "signal.signal(signal.SIGINT, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT)",
    "print('a', flush=True); os.abort()",
    # what it writes
    "print('junk'); print('{\"changed\": false}'); print('more'); sys.exit(0)",
    "sys.stdout.write('no newline'); sys.exit(0)",
    "sys.stdout.buffer.write(b'\\xff\\xfe\\x00 raw'); sys.stderr.buffer.write(b'\\xff'); sys.exit(0)",
    "os.write(1, b'first '); sys.stdout.write('second'); os.write(2, b'err'); sys.exit(0)",
    "print(AnsibleModule().params['quote'], '\\u20ac \\U0001f600'); sys.exit(0)",
    "sys.stdout.close(); sys.exit(0)",
    "sys.stderr.close(); sys.exit('text')",
    "os.close(1); sys.exit(0)",
    "print('lost'); os.close(1); sys.exit(0)",
    "os.close(0); os.close(2); print('still'); sys.exit(0)",
    "sys.stdout.write('x' * 5000000); sys.stderr.write('y' * 3000000); sys.exit(1)",
    # what happens at its end
    "import atexit; atexit.register(print, 'first'); atexit.register(print, 'then'); sys.exit(2)",
    "import atexit; atexit.register(os._exit, 9); sys.exit(2)",
    "import threading, time\ndef late():\n    time.sleep(0.05)\n    print('late')\n"
    "threading.Thread(target=late).start()\nsys.exit(5)",
    "import threading, time\nthreading.Thread(target=time.sleep, args=(100,), daemon=True).start()\nsys.exit(6)",
    "import tempfile\nkept = tempfile.NamedTemporaryFile(prefix='ctxt-warm-')\nkept.me = "
    "kept\nprint(os.path.exists(kept.name))"
    "\nprint(len([n for n in os.listdir(tempfile.gettempdir()) if n.startswith('ctxt-warm-')]))\nsys.exit(0)",
    "class Late:\n    def __del__(self):\n        os.write(1, b'deleted')\nlate = Late()\nlate.me = late\nsys.exit(0)",
    "sys.excepthook = lambda *about: print('hook', about[0].__name__)\nraise KeyError(1)",
    "if os.fork() == 0:\n    os.setsid()\n    import time\n    time.sleep(0.1)\n    os.write(1, b'late')\n    "
    "os._exit(0)\n"
    "print('early', flush=True)\nsys.exit(3)",
    "if os.fork() == 0:\n    os.close(1)\n    import time\n    time.sleep(0.1)\n    os.write(2, b'late')\n    "
    "os._exit(0)\n"
    "print('early', flush=True)\nsys.exit(3)",
    "if os.fork() == 0:\n    sys.exit(8)\nprint(os.WEXITSTATUS(os.wait()[1]))\nsys.exit(0)",
    # what it finds
    "import stat; print([stat.filemode(os.fstat(fd).st_mode)[0] for fd in (1, 2)], repr(sys.stdin.read()), "
    "repr(os.read(0, 10)), len(os.listdir('/proc/self/fd'))); sys.exit(0)",
    "print({n: str(signal.getsignal(n)) for n in range(1, signal.NSIG)}, signal.pthread_sigmask(0, [])); sys.exit(0)",
    "print(sys.argv, sys.flags, sys.path[1:], sys.executable, sys.prefix, sys.getrecursionlimit()); sys.exit(0)",
    "print([n for n in sys.modules if 'contextree' in n], sys.path[0] == _modlib_path, os.path.isfile(_modlib_path), "
    "__name__, __package__, _module_fqn, __file__[len(_modlib_path):], __spec__.name, __spec__.cached); sys.exit(0)",
    "print(sorted(globals())); sys.exit(0)",
    "for each in sys.stdin, sys.stdout, sys.stderr:\n    print(each.name, each.mode, each.encoding, each.errors, "
    "each.line_buffering, each.isatty(), each.seekable(), getattr(each, 'write_through', None))\nsys.exit(0)",
    "import locale; print(locale.setlocale(locale.LC_CTYPE), locale.getpreferredencoding(), "
    "sys.getfilesystemencoding(), locale.setlocale(locale.LC_ALL, '')); sys.exit(0)",
    "import gc, threading, socket; print(gc.isenabled(), gc.get_threshold(), threading.active_count(), "
    "threading.current_thread().name, socket.getdefaulttimeout(), sys.getswitchinterval()); sys.exit(0)",
    "import resource; print([resource.getrlimit(n) for n in range(10)], os.nice(0), os.getcwd(), os.umask(0)); "
    "sys.exit(0)",
    "print(sorted((n, v) for n, v in os.environ.items() if n not in ('_', 'OLDPWD', 'SHLVL'))); sys.exit(0)",
    "print([getattr(sys.modules['__main__'], n) for n in ('__name__', '_module_fqn')]); sys.exit(0)",
    "import zipfile, subprocess; print('ansible/modules/probe.py' in zipfile.ZipFile(_modlib_path).namelist());"
    "sys.stdout.flush(); sys.exit(subprocess.call([sys.executable, '-c', 'import sys; sys.path.insert(0, sys.argv[1]);"
    "import ansible.module_utils.basic as b; print(b.__name__)', _modlib_path]))",
    "import pkgutil, ansible.module_utils as u; print([each[1:] for each in pkgutil.iter_modules(u.__path__)]); "
    "sys.exit(0)",
    "import ansible; print(pkgutil_data) if False else print(__import__('pkgutil').get_data('ansible', "
    "'modules/probe.py')"
    "[:30]); sys.exit(0)",
    "import inspect; print(inspect.getsource(AnsibleModule)); sys.exit(0)",
]
# What ends with a traceback, in which there are frames of the wrapper in stock.
RAISED = [
    "from ansible.module_utils import absent",
    "import antigravity_of_nobody",
    "def deep():\n    raise ValueError('caf\\u00e9')\ndeep()",
    "1 +",
    "raise KeyboardInterrupt",
    "import atexit; atexit.register(print, 'after'); atexit.register(lambda: 1 / 0); sys.exit(3)",
]


@pytest.fixture(scope="module", params=some_pythons())
def context(request, router):
    """A context on each of these Pythons."""
    python = pythons.one_each()[request.param]
    with router.local(python=list(python.argv)) as context:
        both(context, "print(1)")  # what is begun once is there from now on
        close(context)
        yield context


def masked(result):
    """A result without what no two runs have in common."""
    status, out, err = result
    texts = [re.sub(rb"/tmp/ansible_probe_payload_\w+/ansible_probe_payload.zip|/proc/\d+/fd/\d+|/ansible_payload.zip",
                    b"ZIP", text) for text in (out, err)]
    return (status, *texts)


def both(side, source, **options):
    """The results of a module in both ways."""
    old = options.pop("old", False)
    env = options.pop("env", {})
    cwd = options.pop("cwd", None)
    text = payloads.payload(source, old=old, **options)
    found = payload.take_apart(text)
    assert found is not None
    task = dict(found.task, env=env, cwd=cwd)
    return (masked(side.call(warm_side.run, found.digest, found.zip_data(), task)),
            masked(side.call(warm_side.stock, text, env, cwd)))


@pytest.fixture(autouse=True)
def template(monkeypatch):
    """The template of a core before 2.19: here our own."""
    monkeypatch.setattr(payload, "templates", lambda: (payloads.OLD, payloads.LIMIT))


@pytest.mark.parametrize("old", [False, True], ids=["call", "template"])
def test_same_as_stock(side, old):
    """Every one of SAME: the same status, output and errors."""
    for source in SAME[::5 if old else 1]:
        ours, stock = both(side, HEAD + source + "\n", old=old)
        assert ours == stock, source


@pytest.mark.parametrize("old", [False, True], ids=["call", "template"])
def test_same_tracebacks(side, old):
    """Every one of RAISED: the same status and output, and the same of a traceback that is of the module."""
    for source in RAISED:
        ours, stock = both(side, HEAD + source + "\n", old=old)
        assert stock[0], source
        assert ours[:2] == stock[:2], source
        assert ours[2].split(b'File "')[-1] == stock[2].split(b'File "')[-1], source


@pytest.mark.parametrize("env", [
    {"CTXT_A": "b \u20ac", "PATH": "/bin"}, {"TZ": "Asia/Tokyo"}, {"TMPDIR": "/var/tmp"}, {"HOME": "/var/tmp"},
    {"HOME": None},
    {"LC_ALL": "C"}, {"LC_ALL": "POSIX", "LANG": ""}, {"LANG": "en_US.UTF-8"}, {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONPATH": "/var/tmp:."}, {"PYTHONWARNINGS": "error"}, {"PYTHONOPTIMIZE": "1"}, {"PYTHONHASHSEED": "1"},
    {"PYTHONUTF8": "1"}, {"PYTHONUNBUFFERED": None}, {"PYTHONNOUSERSITE": "1"}, {"LD_LIBRARY_PATH": "/var/tmp"},
    {"MALLOC_ARENA_MAX": "1"}, {"USER": None},
], ids=repr)
def test_environment(side, env):
    """Variables of a task, also those that a running Python would not heed any more."""
    source = HEAD + """
import locale, subprocess, tempfile, time, warnings
CHILD = sorted(line for line in subprocess.check_output("env").splitlines()
               if not line.startswith((b"_=", b"OLDPWD=", b"SHLVL=")))
print(sorted((n, v) for n, v in os.environ.items() if n not in ("_", "OLDPWD", "SHLVL")))
print(sys.path[1:], sys.flags, time.tzname, time.strftime("%H", time.localtime(0)), tempfile.gettempdir())
print(os.path.expanduser("~"), sys.stdout.encoding, sys.stdout.errors, sys.getfilesystemencoding())
print(locale.setlocale(locale.LC_CTYPE), locale.setlocale(locale.LC_ALL, None), warnings.filters, sys.warnoptions)
print(os.environ.get("PYTHONHASHSEED") and hash("a"), ascii(CHILD))
sys.exit(0)
"""
    ours, stock = both(side, source, env=env)
    assert ours == stock


def test_directory(side, tmp_path):
    """The directory of a module is the one that it is told; one that is not there is as when there is no home."""
    source = HEAD + "print(os.getcwd(), sys.path[1:]); sys.exit(0)\n"
    for env in {"PYTHONPATH": None}, {"PYTHONPATH": str(tmp_path)}, {"PYTHONPATH": "/nowhere:%s/." % tmp_path}:
        ours, stock = both(side, source, cwd=str(tmp_path), env=env)
        assert ours == stock
    (tmp_path / "json.py").write_text("raise SystemExit('a module in the working directory was imported')")
    ours, stock = both(side, HEAD + "import csv; print(json.loads('1')); sys.exit(0)\n", cwd=str(tmp_path))
    assert ours == stock == (0, b"1\n", b"")


def test_umask_and_limit(side):
    source = (HEAD + "import resource; print(oct(os.umask(0)), resource.getrlimit(resource.RLIMIT_NOFILE)); "
              "sys.exit(0)\n")
    for limit in 64, 1 << 30:
        ours, stock = both(side, source, limit=limit)
        assert ours == stock
    found = payload.take_apart(payloads.payload(source))
    task = dict(found.task, umask=0o77)
    assert side.call(warm_side.run, found.digest, found.zip_data(), task)[1].startswith(b"0o77 ")
    assert side.call(warm_side.run, found.digest, None, found.task)[1].startswith(ours[1][:6])


def test_nothing_is_left_of_a_module_in_the_next(side):
    """What a module changes in its process is not changed for others."""
    change = HEAD + """
import locale, socket, resource, random
os.chdir("/"); os.umask(0o777); os.environ["CTXT_LEFT"] = "1"; sys.path.insert(0, "/nowhere"); sys.argv[:] = ["changed"]
signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
socket.setdefaulttimeout(1); sys.setrecursionlimit(5000); resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
import ansible.module_utils.basic as basic
basic.AnsibleModule = None; basic.left = 1; sys.modules["json"] = None; random.seed(1)
for fd in range(3, 20):
    try:
        os.dup2(1, fd)
    except OSError:
        pass
sys.exit(0)
"""
    look = HEAD + """
import socket, resource, random, json
import ansible.module_utils.basic as basic
print(os.getcwd(), os.umask(0), os.environ.get("CTXT_LEFT"), sys.path[1:], sys.argv, signal.getsignal(signal.SIGTERM),
      signal.pthread_sigmask(0, []), socket.getdefaulttimeout(), sys.getrecursionlimit(), hasattr(basic, "left"),
      resource.getrlimit(resource.RLIMIT_NOFILE), basic.AnsibleModule, json.dumps(1), len(os.listdir("/proc/self/fd")))
import tempfile, uuid
print("random", random.random(), tempfile.mktemp(), uuid.uuid4(), os.getpid(), os.urandom(4))
sys.exit(0)
"""
    before = both(side, look)
    both(side, change)
    after = both(side, look)
    lines = [each[1].split(b"random") for each in before + after]
    assert len({first for first, _ in lines}) == 1
    assert len({second for _, second in lines}) == 4


def test_other_contents_of_the_same_names(side):
    """A role's module_utils of a name that core has is what its module gets, and only that one."""
    look = (HEAD + "import ansible.module_utils.basic as b; print(getattr(b, 'role', None), b.__file__[-8:]); "
            "sys.exit(0)\n")
    files = {"ansible/module_utils/basic.py": payloads.BASIC + "role = 'mine'\n"}
    for each, expected in ({}, b"None"), (files, b"mine"), ({}, b"None"):
        ours, stock = both(side, look, files=each)
        assert ours == stock
        assert ours[1].startswith(expected)


def test_modules_of_collections(side):
    """Packages that are there only in this archive, with data files and relative imports."""
    base = "ansible_collections/ns/col/plugins/"
    files = {"ansible_collections/__init__.py": "", "ansible_collections/ns/__init__.py": "",
             "ansible_collections/ns/col/__init__.py": "", base + "__init__.py": "", base + "modules/__init__.py": "",
             base + "module_utils/__init__.py": "",
             base + "module_utils/deep/__init__.py": "from .inner import value\n",
             base + "module_utils/deep/inner.py": "value = __name__ + __file__[-8:]\n",
             base + "module_utils/deep/data.txt": "data"}
    source = HEAD + """
from ansible_collections.ns.col.plugins.module_utils.deep import value
import ansible_collections, pkgutil
print(value, pkgutil.get_data("ansible_collections.ns.col.plugins.module_utils.deep", "data.txt"))
try:
    from ansible_collections.ns import other
except ImportError as error:
    print(type(error).__name__, error.name)
if sys.version_info >= (3, 9):
    from importlib import resources
    print((resources.files("ansible_collections.ns.col.plugins.module_utils.deep") / "data.txt").read_text())
sys.exit(0)
"""
    ours, stock = both(side, source, files=files)
    assert ours == stock
    assert ours[0] == 0
    ours, stock = both(side, HEAD + "import ansible_collections\n")
    assert ours[:2] == stock[:2]
    assert b"ModuleNotFoundError" in ours[2]


def test_a_damaged_archive(side):
    """It ends like Python in stock: with status 1 and a traceback."""
    data = b"PK" + bytes(200)
    found = payload.take_apart(payloads.payload("", data=data))
    for _ in range(2):
        status, out, err = side.call(warm_side.run, found.digest, data, found.task)
        assert (status, out) == (1, b"")
        assert b"zip" in err.lower()
