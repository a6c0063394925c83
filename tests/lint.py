"""The project's own lint rules: what ruff, mypy, vermin and import-linter do not know. ``python -m tests.lint``

A rule is a function that takes a Source and yields (line, message); RULES says which rule reads which files. To let
a line or a file off, give the reason where the rule looks for it:

* ``WAITS`` below names the files that may block, with what they may use and why;
* ``# sleeps: why`` on a line of a test that sleeps as its work, not to wait for something;
* "Why this file is long" in the docstring of a file of more than 420 lines.
"""

import ast
import functools
import importlib.util
import re
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LONGEST_FILE = 420
LARGEST_BUNDLE = 20_000
# Who may sleep with the whole thread, and not as ``process.waiter`` says, which cooperates with greenlets: all of core
# but the mailbox, and what waits a moment for the loop thread or for modules (see contextree/parent/waits.py).
PLAIN_WAITERS = ("contextree/core/", "contextree/parent/cancelling.py", "contextree/parent/coroutines.py",
                 "contextree/parent/importer.py", "contextree/parent/loop.py", "contextree/parent/reports.py",
                 "contextree/loops/", "contextree/master/driving.py", "contextree/testing/")
THREADING_WAITS = ("Barrier", "BoundedSemaphore", "Condition", "Event", "Semaphore", "Timer")
QUEUES = ("LifoQueue", "PriorityQueue", "Queue", "SimpleQueue")

# Who may block, with which of: select, acquire, sleep, event, queue. Everything else waits through these.
WAITS = {
    "contextree/core/process.py": ("acquire",),  # Waiter: what every waiting in the product comes down to
    "contextree/core/broker.py": ("select",),  # the loop's poller
    "contextree/parent/future.py": ("event",),  # a Future has a Condition, which as_completed() takes
    "contextree/parent/fork.py": ("select",),  # the template: a process of one thread, without a broker
    "contextree/parent/handed.py": ("select",),  # a program of its own, with nothing else to do
    "contextree/master/driving.py": ("select",),  # several loops that one thread drives
    "contextree/master/paramiko_way.py": ("select", "event"),  # a thread for each connection that is being made ...
    "contextree/master/paramiko_login.py": ("event",),
    "contextree/master/paramiko_wire.py": ("select", "acquire"),  # ... and one for each that is there: paramiko's
    "contextree/loops/": ("select", "acquire", "event", "queue"),  # the loops' own ways to wait
    "contextree/testing/": ("select", "acquire", "event", "queue"),  # tools of a test, which runs on its own thread
}

# What a child may import: the standard library, and dill, which the importer forwards.
FOREIGN_ALLOWED = {"contextree", "dill"}


class Source:
    """One file: ``path`` relative to the root with slashes, ``text``, ``lines``, ``tree`` (None if not Python)."""

    def __init__(self, path, text):
        self.path = path
        self.text = text
        self.lines = text.splitlines()

    @functools.cached_property
    def tree(self):
        """The syntax tree. What Python warns of, ruff tells; some modules of playbooks are there to be warned of."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(self.text)

    @functools.cached_property
    def imported(self):
        """{local name: dotted original} of everything imported anywhere in the file."""
        names = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name if alias.asname else alias.name.split(".")[0]
                    names[alias.asname or top] = top
            elif isinstance(node, ast.ImportFrom) and not node.level:
                for alias in node.names:
                    names[alias.asname or alias.name] = "%s.%s" % (node.module, alias.name)
        return names

    def original(self, node):
        """The dotted name behind an expression: ``w`` after ``from os import wait as w`` is "os.wait"; "" if none."""
        if isinstance(node, ast.Name):
            return self.imported.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            return (self.original(node.value) or "?") + "." + node.attr
        return ""

    def calls(self):
        """(node, dotted name of what is called) of every call."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield node, self.original(node.func)


# ------------------------------------------------------------------------------------------------------ the rules
def waits_for_one_child(source):
    """Waiting for any child or for a group takes the statuses of processes that are somebody else's."""
    for node, name in source.calls():
        short = name.rpartition(".")[2]
        if name in ("os.wait", "os.wait3"):
            yield node.lineno, "%s() takes any child's status: wait for one pid" % name
        elif short in ("waitpid", "wait4") and node.args and _not_positive(node.args[0]):
            yield node.lineno, "%s of any child or of a group: wait for one pid" % short
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.Attribute, ast.Name)) and isinstance(node.ctx, ast.Load):
            short = source.original(node).rpartition(".")[2]
            if short in ("P_ALL", "P_PGID"):
                yield node.lineno, "%s takes any child's status: use P_PID or P_PIDFD" % short


def _not_positive(node):
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return True
    return isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value <= 0


def blocks_in_few_places(source):
    """One place waits; what blocks elsewhere does not cooperate with an event loop, a cancel or a fork."""
    allowed = next((kinds for path, kinds in WAITS.items() if source.path.startswith(path)), ())
    for node, name in source.calls():
        kind = _kind_of_wait(node, name)
        if kind and kind not in allowed:
            advice = "wait through core.process.Waiter, or add the file to WAITS"
            yield node.lineno, "%s blocks (%s): %s" % (name, kind, advice)


def waits_cooperatively(source):
    """The synchronous API lets other greenlets run, and refuses to freeze a running event loop."""
    for node, name in source.calls():
        if name == "contextree.core.process.Waiter" and not source.path.startswith(PLAIN_WAITERS):
            yield node.lineno, "process.Waiter() stops every greenlet: use waits.waiter(engine), or process.waiter()"


def _kind_of_wait(node, name):
    module, _, short = name.rpartition(".")
    if short == "unpatched" and all(isinstance(arg, ast.Constant) for arg in node.args):  # the original, by name
        module, short = [arg.value for arg in node.args][:2]
    if module in ("select", "selectors"):
        return "select"
    if short == "sleep" and module in ("time", "gevent", ""):
        return "sleep"
    if short == "acquire" and not _asks_not_to_block(node):
        return "acquire"
    if module == "threading" and short in THREADING_WAITS:
        return "event"
    if module in ("queue", "_queue") and short in QUEUES:
        return "queue"
    return None


def _asks_not_to_block(node):
    blocking = node.args[0] if node.args else next((k.value for k in node.keywords if k.arg == "blocking"), None)
    return isinstance(blocking, ast.Constant) and not blocking.value


def tests_do_not_sleep(source):
    """A sleep that waits for something is too long on a quick machine and too short on a busy one."""
    for node, name in source.calls():
        if name.rpartition(".")[2] != "sleep" or re.search(r"# sleeps: \w", source.lines[node.lineno - 1]):
            continue
        if not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0):
            yield node.lineno, "sleep in a test: wait for the condition (tests.lab.poll.until), or say `# sleeps: why`"


def long_files_say_why(source):
    """A file is about one thing; one that is long says why it is."""
    if len(source.lines) > LONGEST_FILE:
        if "why this file is long" not in " ".join((ast.get_docstring(source.tree) or "").lower().split()):
            yield 1, "%d lines, and the docstring does not say \"Why this file is long\"" % len(source.lines)


def public_things_have_docstrings(source):
    """Every public function, class and method says what it does."""
    yield from _without_docstring(source.tree.body, "", {})


def _without_docstring(body, prefix, inherited):
    classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    for node in body:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) or node.name.startswith("_"):
            continue
        if node.name in inherited or any(_is_continuation(item) for item in node.decorator_list):
            continue
        if not ast.get_docstring(node):
            yield node.lineno, "%s%s has no docstring" % (prefix, node.name)
        if isinstance(node, ast.ClassDef):
            yield from _without_docstring(node.body, node.name + ".", _documented_by_bases(node, classes))


def _documented_by_bases(node, classes, seen=()):
    """Names of the methods that a base class in the same file documents."""
    names = set()
    for base in node.bases:
        above = classes.get(getattr(base, "id", None))
        if above is not None and above.name not in seen:
            names |= {item.name for item in above.body if isinstance(item, ast.FunctionDef) and ast.get_docstring(item)}
            names |= _documented_by_bases(above, classes, (*seen, above.name))
    return names


def _is_continuation(decorator):
    """A setter, deleter or overload: its docstring is at the first of its name."""
    name = decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", "")
    return name in ("setter", "deleter", "overload")


def low_floors_import_standard_library(source):
    """A target has Python and nothing else; typing costs a child milliseconds."""
    checked_only = {
        id(inner)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.If) and source.original(node.test).endswith("TYPE_CHECKING")
        for item in node.body
        for inner in ast.walk(item)
    }
    for node in ast.walk(source.tree):
        if id(node) in checked_only:
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        for name in names:
            top = name.split(".")[0]
            if top not in sys.stdlib_module_names and top not in FOREIGN_ALLOWED:
                yield node.lineno, "imports %s, which a target does not have" % name
            elif top == "typing" and source.path.startswith("contextree/core/"):
                yield node.lineno, "imports typing at run time: put it under `if TYPE_CHECKING:`"


def target_imports_standard_library(source):
    """What the collection runs on targets: as above; ansible's module_utils are in a module's archive."""
    for line, text in low_floors_import_standard_library(source):
        if not re.search(r"imports (typing|ansible\.module_utils\b)", text):
            yield line, text
    for node in source.tree.body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module]
        if "typing" in names:
            yield node.lineno, "imports typing at run time: put it under `if TYPE_CHECKING:`"


def plugins_import_little(source):
    """A plugin of the collection can be loaded where contextree is missing and ansible-core unknown: see ready.py.
    So can what it imports."""
    for node in ast.walk(source.tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = ["." * node.level + (node.module or "") + "." + alias.name for alias in node.names]
        for name in names:
            top = name.split(".")[0]
            if top != "ansible" and top not in sys.stdlib_module_names and name not in _FOR_PLUGINS:
                yield node.lineno, "imports %s: a plugin imports ansible's modules and %s" % (name, _FOR_PLUGINS)


_FOR_PLUGINS = tuple("ansible_collections.contextree.fast.controller." + name for name in ("ready", "asking"))

# Brackets around one letter, so that this file does not hold the words.
_MARKERS = re.compile(r"\b(TOD[O]|FIXM[E]|XX[X])\b")
_PATHS = re.compile(r"(?<![\w.])/(wor[k]|far[m])/|\.pyenv/version[s]")


def words_that_do_not_land(source):
    """Marks of unfinished work, and paths of the machine that something was written on."""
    for number, line in enumerate(source.lines, 1):
        for pattern, what in ((_MARKERS, "a mark of unfinished work"), (_PATHS, "a path of one machine")):
            match = pattern.search(line)
            if match:
                yield number, "%s: %s" % (what, match.group(0))


PRODUCT = ("contextree/", "ansible_plugin/")
LOW_FLOORS = ("contextree/core/", "contextree/connect/", "contextree/parent/")
RULES = [  # (rule, the files that it reads, the files among them that it does not)
    (waits_for_one_child, (*PRODUCT, "tests/"), ("tests/parent/reaper_suite.py",)),  # asks whether any is left
    (blocks_in_few_places, ("contextree/",), ()),
    (waits_cooperatively, ("contextree/",), ()),
    (tests_do_not_sleep, ("tests/",), ("tests/lab/poll.py",)),
    (long_files_say_why, (*PRODUCT, "tests/"), ()),
    (public_things_have_docstrings, PRODUCT, ()),
    (low_floors_import_standard_library, LOW_FLOORS, ()),
    (target_imports_standard_library, ("ansible_plugin/target/",), ()),
    (plugins_import_little, ("ansible_plugin/plugins/", "ansible_plugin/controller/ready.py",
                             "ansible_plugin/controller/asking.py"), ()),
    (words_that_do_not_land, ("",), ()),
]


def check_source(source):
    """All that the rules say about one file, as "path:line: rule: message"."""
    found = []
    for rule, folders, but in RULES:
        if rule is not words_that_do_not_land and not source.path.endswith(".py"):
            continue
        if source.path.startswith(folders) and source.path not in but:
            found += ["%s:%d: %s: %s" % (source.path, line, rule.__name__, text) for line, text in rule(source)]
    return found


# ----------------------------------------------------------------------------------------------------- the bundle
def bundle_size(root):
    """Bytes that the core costs on the wire: by contextree.master.bundle if that is there, else by our own packing."""
    if root == ROOT and (root / "contextree/master/bundle.py").exists():
        return len(importlib.import_module("contextree.master.bundle").build())
    stripped = [_stripped(path.read_text()) for path in sorted((root / "contextree/core").rglob("*.py"))]
    return len(zlib.compress("\0".join(stripped).encode(), 9))


def _stripped(text):
    """The source without comments and docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.body:
            if ast.get_docstring(node, clean=False) is not None:
                node.body[:1] = [] if len(node.body) > 1 or isinstance(node, ast.Module) else [ast.Pass()]
    return ast.unparse(tree)


def check_bundle(root):
    """The core must stay small: every child pays for it."""
    size = bundle_size(root)
    if size > LARGEST_BUNDLE:
        return ["contextree/core:1: bundle: %d bytes compressed, at most %d" % (size, LARGEST_BUNDLE)]
    return []


# ------------------------------------------------------------------------------------------------------- the run
def files(root):
    """The project's files, tracked or new, relative to ``root``; without git, all but the folders that tools make."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        git = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    except FileNotFoundError:  # no git on this machine
        git = None
    if git is not None and git.returncode == 0:
        names = [name.decode() for name in git.stdout.split(b"\0") if name]
    else:
        paths = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
        names = [path.as_posix() for path in paths if not any(_is_made(part) for part in path.parts[:-1])]
    return sorted(set(names))


def _is_made(folder):
    """Folders that tools make; git would know them from .gitignore."""
    return folder.startswith(".") or folder.endswith(".egg-info") or folder in ("__pycache__", "build", "dist")


def check(root=ROOT):
    """All findings in the tree below ``root``."""
    found = []
    for name in files(root):
        path = root / name
        if path.is_file():
            try:
                source = Source(name, path.read_bytes().decode())
            except UnicodeDecodeError:
                continue  # a picture, an archive
            found += check_source(source)
    return found + check_bundle(root)


def main():
    """Print the findings; 1 if there are any."""
    found = check()
    print("\n".join(found) if found else "own rules: nothing found; bundle %d bytes" % bundle_size(ROOT))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
