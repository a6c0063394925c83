"""Modules of real ansible-cores, in forks of the warm template and in Pythons of their own: the same results."""

import base64
import contextlib
import functools
import json
import os
import re
import subprocess

import pytest

import contextree
from tests.ansible import warm_side
from tests.lab import processes, pythons
from tests.lab.poll import until

pytestmark = pytest.mark.ansible

# Pythons of targets: the oldest that a core takes, and the newest ones.
TARGETS = {"2.16": ("3.6", "3.7", "3.12"), "2.19": ("3.8", "3.13"), "2.21": ("3.9", "3.13", "3.14", "3.15")}
NEW = "3.14", "3.15"  # these are in another file system
TOO_OLD = {"2.19": "3.7", "2.21": "3.8"}

OWN = {
    "passes": "module = AnsibleModule(argument_spec=dict(a=dict(type='path', default='~/x'), b=dict(no_log=True)), "
              "supports_check_mode=True)\nmodule.exit_json(changed=True, a=module.params['a'], b=module.params['b'], "
              "n=module._name, v=module.ansible_version, t=module.remote_tmp if hasattr(module, 'remote_tmp') else 0)",
    "fails": "AnsibleModule(argument_spec={}).fail_json(msg='no', rc=3)",
    "wrong_arguments": "AnsibleModule(argument_spec=dict(needed=dict(required=True)))",
    "raises": "def deep():\n    raise ValueError('caf\\u00e9')\ndeep()",
    "does_not_end": "print('{}')",
    "exits": "sys.exit(7)",
    "kills_itself": "print('out', flush=True)\nos.kill(os.getpid(), 9)",
    "prints_junk": "print('before')\nmodule = AnsibleModule(argument_spec={})\nprint('between', file=sys.stderr)\n"
                   "module.exit_json(x=1)",
    "bytes": "module = AnsibleModule(argument_spec={})\nsys.stdout.buffer.write(b'\\xff\\xfe')\n"
             "module.exit_json(x='\\u20ac')",
    "surrogates": "AnsibleModule(argument_spec={}).exit_json(name=os.fsdecode(b'a\\xff'))",
    "warns": "module = AnsibleModule(argument_spec={})\nmodule.warn('careful')\nmodule.deprecate('old', version='9.9', "
             "collection_name='ns.col')\nmodule.deprecate('older', date='2030-01-01')\nmodule.exit_json()",
    "runs_commands": "module = AnsibleModule(argument_spec={})\nprint(module.get_bin_path('sh'))\n"
                     "r = module.run_command('echo out; echo err >&2; cat; exit 4', use_unsafe_shell=True)\n"
                     "r2 = module.run_command(['cat'], data='in')\nr3 = module.run_command(['sh', '-c', 'echo $A'], "
                     "environ_update=dict(A='b'))\nmodule.exit_json(r=r, r2=r2, r3=r3)",
    "temporary": "module = AnsibleModule(argument_spec={})\nopen(os.path.join(module.tmpdir, 'x'), 'w').close()\n"
                 "module.exit_json(changed=os.path.isdir(module.tmpdir))",
    "cleans_up": "module = AnsibleModule(argument_spec={})\nopen('/tmp/ctxt-warm-%d' % os.getpid(), 'w').close()\n"
                 "module.add_cleanup_file('/tmp/ctxt-warm-%d' % os.getpid())\nmodule.exit_json()",
    "moves": "try:\n    from ansible.module_utils.six.moves import configparser, urllib, queue\n"
             "    from ansible.module_utils.six.moves.urllib.parse import quote\n    got = quote('a b'), "
             "queue.Queue.__name__\n"
             "except ImportError as error:\n    got = str(error)\nAnsibleModule(argument_spec={}).exit_json(got=got)",
    "looks": "import ansible, ansible.module_utils.basic as basic\nfrom ansible.module_utils.basic import "
             "missing_required_lib\n"
             "module = AnsibleModule(argument_spec={})\nmodule.exit_json(journal=basic.has_journal, "
             "selinux=basic.HAVE_SELINUX,"
             " profile=getattr(basic, '_ANSIBLE_PROFILE', None), args=basic._ANSIBLE_ARGS.decode()[:30], "
             "name=__name__, package=__package__, fqn=_module_fqn, missing=missing_required_lib('x'), "
             "log=len(basic.AVAILABLE_HASH_ALGORITHMS), zip=sys.path[0] == _modlib_path)",
    "respawns": "from ansible.module_utils.common import respawn\nif not respawn.has_respawned():\n"
                "    python = respawn.probe_interpreters_for_module([sys.executable], 'json')\n"
                "    respawn.respawn_module(python)\nmodule = AnsibleModule(argument_spec=dict(a=dict()))\n"
                "module.exit_json(a=module.params['a'], respawned=respawn.has_respawned())",
    "leaves_behind": "module = AnsibleModule(argument_spec={})\nif os.fork() == 0:\n    os.setsid()\n"
                     "    import time\n    time.sleep(0.2)\n    os.write(1, b'late')\n    "
                     "os._exit(0)\nmodule.exit_json()",
    "lists": "import pkgutil, ansible.module_utils.common as common\nAnsibleModule(argument_spec={}).exit_json("
             "names=sorted(each[1] for each in pkgutil.iter_modules(common.__path__)))",
    "reads": "import inspect, pkgutil\nfrom ansible.module_utils import "
             "basic\nAnsibleModule(argument_spec={}).exit_json("
             "a=len(inspect.getsource(basic)), b=len(pkgutil.get_data('ansible.module_utils', 'basic.py')), "
             "c=os.path.basename(inspect.getsourcefile(basic)))",
    "embeds": "try:\n    from ansible.module_utils.embed import EmbedManager\nexcept ImportError:\n    "
              "EmbedManager = None\n"
              "else:\n    helper = 0\nAnsibleModule(argument_spec={}).exit_json()",
}
OF_CORE = [
    ("ping", {}), ("ping", {"data": "crash"}), ("command", {"_raw_params": "echo hi; false", "_uses_shell": True}),
    ("command", {"_raw_params": "/nonexistent"}), ("stat", {"path": "/etc/debian_version"}),
    ("slurp", {"src": "/etc/hostname"}),
    ("file", {"path": "/etc/ssl", "state": "directory"}), ("find", {"paths": ["/etc/ssl"], "recurse": True}),
    ("copy", {"src": "/nonexistent", "dest": "/tmp/x"}), ("getent", {"database": "passwd", "key": "root"}),
    ("setup", {"gather_subset": ["!all", "min"]}), ("tempfile", {"state": "directory", "path": "/nonexistent"}),
    ("uri", {"url": "http://127.0.0.1:1/"}), ("apt", {"name": "bash", "_ansible_check_mode": True}),
    ("dnf", {"name": ["bash"]}), ("service", {"name": "ctxt-nonexistent"}),
    ("user", {"name": "root", "state": "present"}),
    ("lineinfile", {"path": "/nonexistent", "line": "x"}), ("package_facts", {"manager": ["apt"]}),
    ("wait_for", {"timeout": 0, "port": 1, "sleep": 1}), ("pip", {"name": "x", "executable": "/nonexistent"}),
]
HEAD = "import os\nimport sys\nfrom ansible.module_utils.basic import AnsibleModule\n"


@functools.cache
def built(core, folder):
    """All the payloads of a core: [(name, text, what is in it)]."""
    wanted = []
    for name, source in OWN.items():
        path = folder / ("ctxt_%s.py" % name)
        path.write_text(HEAD + source + "\n")
        wanted.append([str(path), {"a": "b"} if name in ("passes", "respawns") else {}, {}])
    wanted += [[name, arguments, {}] for name, arguments in OF_CORE]
    done = subprocess.run([str(core.folder / "python"), "-m", "tests.ansible.build"], input=json.dumps(wanted),
                          text=True, stdout=subprocess.PIPE, cwd=pythons.ROOT, check=True, timeout=120)
    names = list(OWN) + ["%s %s" % each for each in OF_CORE]
    texts = []
    for name, (text, seen) in zip(names, json.loads(done.stdout), strict=True):
        assert seen is not None, "%s is not known" % name
        digest, data, task = seen
        task["params"] = task["params"].encode()
        texts.append((name, base64.b64decode(text), digest, base64.b64decode(data), task))
    return texts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("modules")


TEXTS = re.compile(
    rb"/tmp/ansible_[\w.]+_payload_\w+/ansible_[\w.]+_payload.zip|/proc/\d+/fd/\d+|/ansible_payload.zip|line \d+"
    rb"|0x[0-9a-f]+|ansible-moduletmp-[\w.-]+|ctxt-warm-\d+|/nonexistent/ansible\.\w+")
# The sitecustomize of 2.19 and 2.20 is no Python: each Python with the zip on PYTHONPATH says so. Ours is.
CUSTOMIZED = re.compile(rb"Error in sitecustomize; set PYTHONVERBOSE for traceback:\n[^\n]*\n")
OTHERWISE = {"start", "end", "delta", "atime", "ctime", "mtime", "elapsed", "ansible_date_time",
             "ansible_uptime_seconds", "_", "SHLVL", "PWD", "OLDPWD"}  # the last ones are of the shell before it


def masked(result):
    """A result without what no two runs have in common."""
    status, out, err = result
    out, err = (TEXTS.sub(b"MASKED", text) for text in (out, err))
    err = CUSTOMIZED.sub(b"", err)
    if b"Traceback" in err:  # with frames of the wrapper in stock
        err = err.strip().split(b"\n")[-1]
    begin = out.find(b"{")
    try:
        return status, out[:begin], without(json.loads(out[begin:])), err
    except ValueError:
        return status, out, None, err


def without(value):
    """A value without what is different each time."""
    if isinstance(value, dict):
        return {key: without(each) for key, each in value.items() if key not in OTHERWISE}
    return [without(each) for each in value] if isinstance(value, list) else value


@contextlib.contextmanager
def side(minor):
    """A context on this Python, on this machine; with it end its templates."""
    with contextree.Router() as router:
        context = router.local(python=list(pythons.one_each()[minor].argv))
        yield context
        ended = context.call(warm_side.close)
        until(lambda: not any(processes.stat(pid) for pid in ended), "the templates to end")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("core", "minor"), [(core, minor) for core in TARGETS for minor in TARGETS[core]],
                         indirect=["core"])
def test_same_as_stock(core, minor, folder, tmp_path):
    """Every one of them."""
    different, cwd = [], "/tmp" if minor in NEW else str(tmp_path)
    with side(minor) as context:
        if minor in NEW:  # what the first module would make
            for path in "/root/.ansible/tmp", "/etc/ssl":
                context.call(os.makedirs, path, exist_ok=True)
        for name, text, digest, data, task in built(core, folder):
            ours = masked(context.call(warm_side.run, digest, data, dict(task, cwd=cwd)))
            stock = masked(context.call(warm_side.stock, text, {}, cwd))
            if ours != stock:
                different.append("%s:\n  ours  %s\n  stock %s" % (name, ours, stock))
    assert not different, "\n".join(different)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("core", TOO_OLD, indirect=True)
def test_a_python_that_is_too_old(core, folder):
    """Core says so in its own words."""
    with side(TOO_OLD[core.version]) as context:
        _, text, digest, data, task = next(each for each in built(core, folder) if each[0].startswith("ping"))
        ours = masked(context.call(warm_side.run, digest, data, task))
        assert ours == masked(context.call(warm_side.stock, text, {}, "/"))
        assert ours[0] == 1
