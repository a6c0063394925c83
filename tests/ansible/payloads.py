"""AnsiballZ payloads of our own, in the two formats, around a small core of our own: for tests without ansible-core.

What a payload does is what core's does: it writes its archive to a temporary folder, puts that on ``sys.path``, and
runs the module in it as ``__main__``. So Python can be fed with it, as in stock, and ``controller.payload`` takes it
apart.
"""

import base64
import datetime as dt
import io
import zipfile

from ansible_plugin.controller import payload as controller

HEAD = "from ansible.module_utils.basic import AnsibleModule\nimport os, sys, signal, json, time\n"

BASIC = '''
import json
import sys

_ANSIBLE_ARGS = None
_ANSIBLE_PROFILE = None


class AnsibleModule:
    def __init__(self):
        self.params = json.loads(_ANSIBLE_ARGS.decode())["ANSIBLE_MODULE_ARGS"]

    def exit_json(self, **result):
        print("\\n" + json.dumps(result, sort_keys=True))
        sys.exit(0)
'''

LOADER = '''
import runpy

from ansible.module_utils import basic


def run_module(*, json_params, profile, module_fqn, modlib_path, extensions, init_globals=None):
    basic._ANSIBLE_ARGS = json_params
    basic._ANSIBLE_PROFILE = profile
    runpy.run_module(mod_name=module_fqn, init_globals=dict(_module_fqn=module_fqn, _modlib_path=modlib_path),
                     run_name="__main__", alter_sys=True)
    raise RuntimeError("New-style module did not handle its own exit.")
'''

BEGIN = '''
    import os
    import sys
    import __main__

    try:
        os.getcwd()
    except OSError:
        os.chdir(os.path.expanduser("~"))
%s
    folder = None
    try:
        folder = os.path.dirname(os.path.realpath(__main__.__file__))
    except AttributeError:
        pass
    sys.path = [each for each in sys.path if each not in ("", ".", folder)]
    import base64
    import shutil
    import tempfile
'''

LIMIT = '''
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, %(rlimit_nofile)d)
    if wanted != soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
'''

NEW = '''%(shebang)s
_ANSIBALLZ_WRAPPER = True


def _ansiballz_main(zip_data, ansible_module, module_fqn, params, profile, date_time, extensions, rlimit_nofile):''' + (
    BEGIN % ("\n    if rlimit_nofile:" +
             LIMIT.replace("\n    ", "\n        ").replace("%(rlimit_nofile)d", "rlimit_nofile"))
) + '''
    place = os.path.realpath(tempfile.mkdtemp(prefix="ansible_" + ansible_module + "_payload_"))
    try:
        path = os.path.join(place, "ansible_" + ansible_module + "_payload.zip")
        with open(path, "wb") as file:
            file.write(base64.b64decode(zip_data))
        sys.path.insert(0, path)
        from ansible.module_utils._internal._ansiballz import _loader

        _loader.run_module(json_params=params.encode(), profile=profile, module_fqn=module_fqn, modlib_path=path,
                           extensions=extensions)
    finally:
        shutil.rmtree(place, ignore_errors=True)
'''

OLD = '''%(shebang)s
%(coding)s
_ANSIBALLZ_WRAPPER = True
def _ansiballz_main():''' + (BEGIN % "%(rlimit)s") + '''    import runpy
    ZIPDATA = %(zipdata)r
    def invoke_module(modlib_path, json_params):
        date_time = %(date_time)s
        sys.path.insert(0, modlib_path)
        from ansible.module_utils import basic
        basic._ANSIBLE_ARGS = json_params
%(coverage)s
        runpy.run_module(mod_name=%(module_fqn)r,
                         init_globals=dict(_module_fqn=%(module_fqn)r, _modlib_path=modlib_path),
                         run_name='__main__', alter_sys=True)
        print('{"msg": "New-style module did not handle its own exit", "failed": true}')
        sys.exit(1)
    ANSIBALLZ_PARAMS = %(params)s.encode('utf-8')
    try:
        temp_path = tempfile.mkdtemp(prefix='ansible_' + %(ansible_module)r + '_payload_')
        zipped_mod = os.path.join(temp_path, 'ansible_' + %(ansible_module)r + '_payload.zip')
        with open(zipped_mod, 'wb') as modlib:
            modlib.write(base64.b64decode(ZIPDATA))
        invoke_module(zipped_mod, ANSIBALLZ_PARAMS)
    finally:
        shutil.rmtree(temp_path, ignore_errors=True)
if __name__ == '__main__':
    _ansiballz_main()
'''

FILES = {
    "ansible/__init__.py": "",
    "ansible/module_utils/__init__.py": "",
    "ansible/module_utils/basic.py": BASIC,
}
NEW_FILES = {
    "ansible/module_utils/_internal/__init__.py": "",
    "ansible/module_utils/_internal/_ansiballz/__init__.py": "",
    "ansible/module_utils/_internal/_ansiballz/_loader.py": LOADER,
}
PARAMS = '{"ANSIBLE_MODULE_ARGS": {"name": "value", "quote": "it\'s \\u20ac \\\\n"}}'
WHEN = dt.datetime(2026, 11, 21, 9, 30, tzinfo=dt.timezone.utc)


def archive(source, name="probe", files=None, old=False, compression=zipfile.ZIP_DEFLATED):
    """A zip with the module ``name`` and this small core; ``files`` are further ones, or others for the same path."""
    content = {**FILES, **({} if old else NEW_FILES), "ansible/modules/__init__.py": "",
               "ansible/modules/%s.py" % name: source, **(files or {})}
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", compression) as file:
        for path, text in content.items():
            file.writestr(zipfile.ZipInfo(path, WHEN.timetuple()[:6]), text, compression)
    return output.getvalue()


def payload(source, name="probe", files=None, old=False, params=PARAMS, limit=0, data=None, **changed):
    """The text that Python is fed with, as bytes; ``changed`` are arguments (2.19 and newer) or places (older) by
    name, as they are to stand in the text."""
    data = archive(source, name, files, old) if data is None else data
    text = base64.b64encode(data).decode()
    fqn = "ansible.modules." + name
    if old:
        places = {"shebang": "#!/usr/bin/python3", "coding": "# -*- coding: utf-8 -*-", "zipdata": text, "coverage": "",
                  "rlimit": LIMIT % {"rlimit_nofile": limit} if limit else "", "date_time": repr(WHEN.timetuple()[:6]),
                  "params": repr(params), "module_fqn": fqn, "ansible_module": name, **changed}
        return (OLD % places).encode()
    values = {"ansible_module": repr(name), "module_fqn": repr(fqn), "profile": "'legacy'", "date_time": repr(WHEN),
              "rlimit_nofile": repr(limit), "params": repr(params), "extensions": "{}", "zip_data": repr(text),
              **changed}
    lines = ["%s=%s," % each for each in values.items()]
    head = NEW % {"shebang": "#!/usr/bin/python3"}
    if "import datetime" not in head:
        head = head.replace("_ANSIBALLZ_WRAPPER = True", "import datetime\n\n_ANSIBALLZ_WRAPPER = True")
    return ("%s\n\nif __name__ == \"__main__\":\n    _ansiballz_main(\n%s\n)\n" % (head, "\n".join(lines))).encode()


def of(source, **options):
    """The arguments of ``warm_side.run`` for a module that begins with HEAD."""
    found = controller.take_apart(payload(HEAD + source, **options))
    return found.digest, found.zip_data(), found.task
