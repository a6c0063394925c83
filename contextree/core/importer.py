"""Imports in a child: what the target does not have comes from the parent, in memory; no file is written.

The finder stands twice on ``sys.meta_path``. First, for names that the master has said to share (the modules of a
function that is about to be called, and all that they import): the master's version wins, because the caller was
written against it. Last, for every other name that nothing on the target knows. The target's own standard library is
never asked for: the master never shares it.

One request names all shared modules that are still missing, so a package of sixty modules costs one round trip.
``records`` is the cache, also for children of this context.
"""

import sys
from _imp import acquire_lock, release_lock
from zlib import decompress

from contextree.core import process
from contextree.core.process import loads
from contextree.core.wire.frames import MODULES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType
    from typing import Any, Iterable, Iterator, Sequence

    from contextree.core.router import Channel, Router

ABSENT, SOURCE, CODE, NAMESPACE = 0, 1, 2, 3
# what the standard library tries to import on other platforms: not worth a question
NOWHERE = {"org", "nt", "msvcrt", "winreg", "_winapi", *getattr(sys, "stdlib_module_names", ())}
MAGIC = sys.modules["_frozen_importlib_external"].MAGIC_NUMBER


class Finder:
    """One place of the importer on ``sys.meta_path``."""

    def __init__(self, importer: "Importer", asks: bool) -> None:
        self.importer = importer
        self.asks = asks

    def find_spec(self, name: str, path: "Sequence[str] | None" = None, target: object = None) -> "ModuleSpec | None":
        """A spec for ``name``, or None when it is not ours to give."""
        importer = self.importer
        if not self.asks and name not in importer.shared and name[:11] != "contextree.":  # never another version
            return None
        if self.asks and name.partition(".")[0] in NOWHERE:
            return None
        record = importer.record(name)
        if record[1] == ABSENT:
            # an import tells the reason, unless a finder that came later may know more; importlib.util.find_spec, which
            # gets here by another way, has None to say it
            if sys.meta_path[-1] is self and record[3] and sys._getframe(2).f_code.co_name[:14] == "_find_and_load":
                raise ModuleNotFoundError("No module named %r: %s" % (name, record[3]), name=name)
            return None
        return importer.spec(record)

    def find_distributions(self, context: "Any" = None) -> "Iterator[Any]":
        """``importlib.metadata`` of distributions of the master."""
        if not self.asks or not self.importer.router:
            return iter(())
        from contextree.parent import resources

        return resources.distributions(self.importer, context)


class Importer:
    """The importer of one context; also the ``__loader__`` of what it loads. ``parent`` is the id that is asked."""

    main = None  # the root's main script, once it was needed

    def __init__(self, router: "Router | None", parent: int) -> None:
        self.router = router  # type: Any  # None in the template
        self.parent = parent
        self.records = {}  # type: dict[str, tuple[Any, ...]]  # name -> (name, form, path, data or reason, is package)
        self.shared = set()  # type: set[str]
        self.pending = {}  # type: dict[str, list[process.Waiter]]  # name -> waiters
        self.lock = process.allocate_lock()
        self.requests = 0

    @classmethod
    def of(cls, router: "Router | None", parent: int, records: "Iterable[tuple[Any, ...]]") -> "Importer":
        """The importer of this process, with its places on ``sys.meta_path``. One that a fork inherited keeps its cache
        and gets the new router and parent."""
        for finder in sys.meta_path:
            if type(finder) is Finder:
                importer = finder.importer
                importer.router = router
                importer.parent = parent
                importer.lock = process.allocate_lock()
                importer.pending = {}
                break
        else:
            importer = cls(router, parent)
            sys.meta_path.insert(0, Finder(importer, False))
            sys.meta_path.append(Finder(importer, True))
        for record in records:
            importer.records[record[0]] = record
            importer.shared.add(record[0])
        return importer

    # -- records

    def on_share(self, channel: "Channel", options: int, threads: int, deadline: int, data: bytes, fin: bool) -> None:
        """The master says what it shares, and which of it comes without asking (or brings that). Loop thread."""
        names, coming, records = loads(data)
        self.shared.update(names)
        with self.lock:
            for name in coming:
                self.pending.setdefault(name, [])
            for name in names:  # what was refused before may be had now
                if self.records.get(name, "  ")[1] == ABSENT:
                    del self.records[name]
        for record in records:
            self.store(record)
        channel.send(b"", True)

    def store(self, record: "tuple[Any, ...]") -> None:
        """Keep a record and wake who waits for it."""
        with self.lock:
            self.records[record[0]] = record
            waiters = self.pending.pop(record[0], ())
        for waiter in waiters:
            waiter.wake()

    def record(self, name: str) -> "tuple[Any, ...]":
        """The record of ``name``; asks the parent and waits when need be. Not on the loop thread."""
        while True:
            with self.lock:
                record = self.records.get(name)
                if record:
                    return record
                if not self.router:
                    return name, ABSENT, "", "", False
                ask = name not in self.pending
                waiter = process.Waiter()
                self.pending.setdefault(name, []).append(waiter)
                names = [name]
                if ask:
                    names += [other for other in self.shared
                              if other not in self.records and other not in self.pending and other not in sys.modules]
                    for other in names[1:]:
                        self.pending[other] = []
            if ask:
                self.request(names)
            waiter.wait()

    def request(self, names: "list[str]") -> None:
        """Ask the parent for records; each is stored as it comes."""
        self.requests += 1

        def message(channel: "Channel", data: bytes, fin: bool, cost: int) -> None:
            channel.taken(cost)
            if data:
                self.store(loads(data))
            if fin:
                end(channel, "the parent did not answer")

        def end(channel: "Channel | None", error: object) -> None:
            for name in names:
                if name not in self.records:
                    with self.lock:
                        waiters = self.pending.pop(name, ())
                        self.records[name] = name, ABSENT, "", str(error), False
                    for waiter in waiters:
                        waiter.wake()

        try:
            self.router.open(self.parent, MODULES, MAGIC + "\n".join(names).encode("utf-8", "replace"), fin=True,
                             on_message=message, on_end=end)
        except Exception as error:
            end(None, error)

    # -- the loader protocol

    def spec(self, record: "tuple[Any, ...]") -> "ModuleSpec":
        """A module spec for a record that is there."""
        from _frozen_importlib import ModuleSpec

        name, form, path, data, package = record
        # the loader protocol, without its base class, which would cost an import
        spec = ModuleSpec(name, None if form == NAMESPACE else self,  # type: ignore[arg-type]
                          origin=path, is_package=package)
        spec.has_location = bool(path) and form != NAMESPACE
        return spec

    def create_module(self, spec: "ModuleSpec") -> None:
        """The default one."""

    def exec_module(self, module: "Any") -> None:
        """Run the code of ``module`` in it."""
        exec(self.get_code(module.__spec__.name), module.__dict__)

    def get_code(self, name: str) -> "CodeType":
        """The code object of a module of ours."""
        name, form, path, data, package = self.record(name)
        if form == CODE:
            from marshal import loads as unmarshal

            return unmarshal(decompress(data))  # type: ignore[no-any-return]
        return compile(decompress(data), path or name, "exec", dont_inherit=True)

    def get_source(self, name: str) -> "str | None":
        """The text of a module of ours, for tracebacks and ``inspect``."""
        name = name.replace("__mp_main__", "__main__")
        name, form, path, data, package = self.record(name)
        if form == SOURCE:
            from importlib.util import decode_source

            return decode_source(decompress(data))
        if name[:11] == "contextree.":
            return None  # of ours it is worth no round trip: each error that passes through would cost some
        from contextree.parent import resources

        return resources.source(self, name)

    def is_package(self, name: str) -> bool:
        """Whether a module of ours is a package."""
        return bool(self.record(name)[4])

    def get_resource_reader(self, name: str) -> "Any":
        """Data files of a package of ours."""
        from contextree.parent import resources

        return resources.Reader(self, name)

    def get_data(self, path: str) -> bytes:
        """The bytes of a file in the folder of a package of ours, for ``pkgutil.get_data``."""
        from contextree.parent import resources

        return resources.data(self, path)

    def load_main(self) -> None:
        """Make the master's main script importable as ``__main__``, run under another name so that its guard holds."""
        acquire_lock()
        try:
            if self.main:
                return
            record = self.record("__main__")
            if record[1] == ABSENT:
                raise ImportError("the master's __main__ cannot be sent: %s" % record[3])
            module = type(sys)("__mp_main__")
            module.__file__ = record[2]
            module.__package__ = record[4]  # of python -m
            module.__loader__ = self  # type: ignore[assignment]  # as above
            self.main = sys.modules["__mp_main__"] = sys.modules["__main__"] = module
            try:
                exec(self.get_code("__main__"), module.__dict__)
            except BaseException:
                self.main = None
                raise
        finally:
            release_lock()
