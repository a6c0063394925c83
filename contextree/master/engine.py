"""The root's engine: it answers for modules, decodes what strangers send, and gives the tree's words to ``logging``."""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from contextree.core.importer import ABSENT, CODE, NAMESPACE, SOURCE
from contextree.core.wire.routes import MAX_ID
from contextree.master import bundle
from contextree.master.finder import Finder
from contextree.master.logs import Logs
from contextree.master.values import decode
from contextree.parent import ends
from contextree.parent.context import Context
from contextree.parent.engine import Engine

if TYPE_CHECKING:
    from contextree.connect.plan import Plan
    from contextree.parent.boot import Branch

NAMES = 100  # of modules in one message
PUSH = 1 << 19  # bytes of modules that are sent ahead of a call

Row = tuple[str, int, str, bytes | str, bool | str]


class RootEngine(Engine):
    """The engine of a root. ``finder`` decides what children may import."""

    def __init__(self, core: Any, finder: Finder, log_level: int | None) -> None:
        super().__init__(core, [(1, MAX_ID)], bundle.build(), decode)
        self.finder = finder
        self.logs = Logs(self, log_level)
        self._main: bool | None = None
        self._plain: set[str] = set()  # modules of the standard library
        self._sharing = threading.Lock()
        self.connections: Any = None  # of paramiko_link

    # -- modules

    def row(self, name: str, magic: bytes) -> Row:
        """What a child gets for module ``name``: compiled when its Python is ours: a tenth of the time.

        Of the main script the last field is the package that it belongs to (``python -m``)."""
        record = self.finder.find(name)
        if not record.found:
            return name, ABSENT, "", record.reason, False
        if record.namespace:
            return name, NAMESPACE, record.path, b"", True
        package: bool | str = record.is_package
        if name == "__main__":
            package = getattr(sys.modules[name], "__package__", None) or ""
        code = record.packed_code(magic)
        if code is not None:
            return name, CODE, record.path, code, package
        return name, SOURCE, record.path, record.compressed(), package

    def lookup(self, names: Iterable[str], magic: bytes) -> Iterator[Row]:
        """The rows of ``names``, one by one, for a child whose Python has ``magic``. On a service thread."""
        for name in names:
            yield self.row(name, magic)

    def records(self, names: Iterable[str]) -> list[Row]:
        """The rows of ``names`` as source, for a child that cannot ask. Any thread."""
        return [self.row(name, b"") for name in names]

    def answer(self, question: Any) -> Any:
        """The answer to a question of a child about data files, sources, metadata; None to one that nobody knows.

        The finder decides what it may see. On a service thread."""
        match question:
            case ["source", *names]:
                return [self.row(str(name), b"") for name in names]
            case ["names", str(package), str(path)]:
                return self.finder.resource_names(package, path)
            case ["is_file", str(package), str(path)]:
                return self.finder.is_resource(package, path)
            case ["data", str(package), str(path)]:
                return self.finder.resource(package, path)
            case ["metadata", str(name)]:
                return self.finder.metadata(name)
            case ["distributions"]:
                return self.finder.distributions()
        return None

    def allow(self, modules: Iterable[str]) -> None:
        """Let children import ``modules`` from now on. Any thread."""
        for name in modules:
            self.finder.allow(name)

    def share(self, context: Context, modules: AbstractSet[str], needs_main: int) -> None:
        """See that ``context`` may import what a call names, and send it ahead where that saves asking.

        ``context.shared`` says so when it is done, not before: another thread's call may go at once then."""
        with self._sharing:
            self._share(context, set(modules) - context.shared - self._plain)
            context.shared |= modules

    def _share(self, context: Context, new: set[str]) -> None:
        for name in list(new):
            if name.partition(".")[0] in sys.stdlib_module_names:
                self._plain.add(name)
                new.discard(name)
        info = self.infos.get(context.id)
        own = {name for name in new if name.partition(".")[0] == "contextree"}
        new -= own
        if not new:
            return
        self.allow(new)
        if info is not None and not self.finder.changes and self.same_disk(info):
            return
        self.finder.settle()  # at once: the closure needs parsing anyway, and metadata is told of what is shared
        found = {each for name in new for each in self.finder.closure(name)}
        if not self._main:
            found.discard("__main__")  # dill imports it, and a direct fork has it in memory
        names = sorted(found)
        if info is not None and self.same_disk(info):
            names = [name for name in names if self.finder.is_changed(name)]
        if info is not None and names:
            self.push(context, names)

    def same_disk(self, info: Any) -> bool:
        """Whether a context finds what we have on its own ``sys.path``."""
        while info is not None:
            if info.facts.get("method") not in ("fork", "local") or not info.facts.get("same"):
                return False
            if info.parent == self.core.id:
                return True
            info = self.infos.get(info.parent)
        return False

    def push(self, context: Context, names: list[str]) -> None:
        """Tell ``context`` what it may import; a direct child gets the modules too.

        Names go in small messages, which the call that they are for cannot overtake; modules, as bulk, it may overtake,
        so the names say which are coming and need not be asked for."""
        rows: list[Row] = []
        info = self.infos.get(context.id)
        if info is not None and info.parent == self.core.id:
            total = 0
            magic = info.facts.get("magic", b"")
            for name in names:
                row = self.row(name, magic)
                total += len(row[3])
                if total > PUSH:
                    break
                rows.append(row)
        coming = {row[0] for row in rows}
        parts = [names[at:at + NAMES] for at in range(0, len(names), NAMES)]
        messages: list[tuple[list[str], list[str], list[Row]]] = [
            (part, [name for name in part if name in coming], []) for part in parts]
        for message in [*messages, ([], [], rows)] if rows else messages:
            self.tell_shared(context, message)

    def share_package(self, context: Context, plan: Any = None, start: str = "") -> None:
        """Send ahead what ``context`` needs of contextree itself, to start a child by ``plan`` or to do something else
        for us, by functions of the module ``start``. Idempotent."""
        from contextree.master import ahead

        needed = ahead.names(plan, start)
        info = self.infos.get(context.id)
        with self._sharing:
            # who is further down asks its parent, for all of it at once: so that has to have it
            for each in [context] if info is None or info.link.peer == context.id else [
                    self.context(info.link.peer), context]:
                new = needed - each.shared
                if new:
                    self.push(each, sorted(new))
                    each.shared |= new

    def main_by_name(self, value: Any = None) -> bool:
        """May functions of ``__main__`` go by name? Where it is a script that children can import. Any thread."""
        if self._main is None:
            self.finder.allow("__main__")
            self._main = self.finder.main_source().found
            if self._main:  # children call it so, and their pickles do
                sys.modules.setdefault("__mp_main__", sys.modules["__main__"])
        return self._main

    def launch_by_transport(self, plan: "Plan", options: dict[str, Any], wait: bool) -> "Branch":
        """Start a child by ``plan.transport``: paramiko is the only one."""
        from contextree.master import paramiko_link

        return paramiko_link.launch(self, plan, options, wait)

    def handed_on(self, context: Context, plan: "Plan") -> "Plan":
        """``plan`` as ``context`` is to carry it out; see ``master.paramiko_via``."""
        if plan.transport is None:
            return plan
        from contextree.master import paramiko_via

        return paramiko_via.begin(self, context, plan)

    def log_level(self) -> int:
        """The level below which children need not send log records."""
        return self.logs.level

    def end(self, grace: float, then: Callable[[], object]) -> None:
        """End all children: they have ``grace`` seconds, and are killed two seconds later; then call ``then``. Loop
        thread."""
        ends.end_all(self, grace, then)

    def progress(self, title: str) -> Any:
        """A bar for a transfer, or None where stderr is no terminal."""
        from contextree.master.progress import bar

        return bar(title)

    # -- what children say

    def child_line(self, number: int, stream: str, line: bytes) -> None:
        """Log a line that a direct child wrote outside its link. Loop thread."""
        self.logs.line(number, stream, line)

    def on_log(self, info: Any, view: memoryview) -> None:
        """Log what came from below as a record. Loop thread."""
        self.logs.payload(info, view)

    def on_security(self, number: int, what: str) -> None:
        """Log that child ``number`` broke a rule. Loop thread."""
        self.logs.security(number, what)
