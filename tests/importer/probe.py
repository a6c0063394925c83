"""What the tests of the importer run in children. Python 3.6 runs this too."""

import importlib
import os
import sys
import threading
import traceback


def importer():
    """The importer of this context."""
    from contextree.core import main

    return main.child.importer


def load(name):
    """Import a module: (its file, what its ``value`` is)."""
    module = importlib.import_module(name)
    return getattr(module, "__file__", None), getattr(module, "value", None)


def fails(name):
    """The text of the ImportError."""
    try:
        importlib.import_module(name)
    except ImportError as error:
        return str(error)
    return "it was imported"


def requests():
    return importer().requests


def forms():
    """{name: form} of what came."""
    return {name: record[1] for name, record in importer().records.items()}


def from_parent():
    """Names of modules that came, as far as they are imported."""
    return sorted(name for name, record in importer().records.items() if record[1] and name in sys.modules)


def at_once(name, count):
    """Import a module in many threads at the same time."""
    start = threading.Barrier(count)
    found = []

    def work():
        start.wait()
        try:
            found.append(id(importlib.import_module(name)))
        except BaseException:
            found.append(traceback.format_exc())

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def source(name, function):
    """What ``inspect`` says of a function."""
    import inspect

    return inspect.getsource(getattr(importlib.import_module(name), function))


def trace(name, function):
    """The traceback of a function that fails."""
    try:
        getattr(importlib.import_module(name), function)()
    except Exception:
        return traceback.format_exc()


def data_files(package):
    """What ``importlib.resources`` finds, in three ways."""
    from importlib import resources

    files = resources.files(package)
    return {
        "names": sorted(item.name for item in files.iterdir() if item.name != "__pycache__"),
        "text": files.joinpath("data.txt").read_text(encoding="utf-8"),
        "deep": (files / "sub" / "deep.bin").read_bytes(),
        "opened": files.joinpath("data.txt").open("rb").read(),
        "kinds": [files.joinpath(name).is_file() for name in ("data.txt", "sub", "missing", "sub/deep.bin")],
        "folders": [files.joinpath(name).is_dir() for name in ("data.txt", "sub", "missing")],
        "outside": _refused(files, "../secret.txt"),
    }


def _refused(files, path):
    try:
        return files.joinpath(path).read_bytes()
    except (FileNotFoundError, ValueError):
        return "refused"


def old_data_files(package):
    """The functions of Python 3.7 to 3.9."""
    from importlib import resources

    return (resources.read_text(package, "data.txt"), resources.is_resource(package, "sub"),
            resources.is_resource(package, "data.txt"), sorted(resources.contents(package)))


def version_of(name):
    from importlib import metadata

    return metadata.version(name)


def files_written(folder):
    """Files below a folder, but not what belongs to others."""
    return sorted(os.path.join(path, name) for path, _, names in os.walk(folder) for name in names)


def by_pkgutil(package):
    """What pkgutil.get_data gives for files of a package, one that is missing, two outside."""
    import pkgutil

    found = []
    for name in ("data.txt", "sub/deep.bin", "__init__.py", "missing.txt", "../secret.txt", "sub/../../secret.txt"):
        try:
            found.append(pkgutil.get_data(package, name))
        except OSError as error:
            found.append(type(error).__name__)
    loader = importlib.import_module(package).__loader__
    for path in ("/etc/passwd", "data.txt", ""):
        try:
            loader.get_data(path)
        except FileNotFoundError:
            continue
        raise AssertionError(path)
    return found


def with_a_finder_behind_ours():
    """Import a module that only a finder knows which was added after contextree's."""
    import importlib.abc
    import importlib.machinery
    import sys

    class Last(importlib.abc.MetaPathFinder, importlib.abc.Loader):
        def find_spec(self, name, path=None, target=None):
            return importlib.machinery.ModuleSpec(name, self) if name == "known_to_the_last_one" else None

        def create_module(self, spec):
            return None

        def exec_module(self, module):
            module.text = "found by the last one"

    last = Last()
    sys.meta_path.append(last)
    try:
        import known_to_the_last_one

        return known_to_the_last_one.text
    finally:
        sys.meta_path.remove(last)
