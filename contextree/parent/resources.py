"""Sources, data files and metadata of modules that came from the root, for those who ask in a child."""

import io

from contextree.core import process
from contextree.core.importer import SOURCE
from contextree.core.wire.errors import ContextreeError
from contextree.parent.importer import ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator

    from contextree.core.importer import Importer


def question(importer: "Importer", *words: str) -> "Any":
    """Ask the parent; None too when it is gone, or when this is the thread of the loop, which must not wait."""
    try:
        if importer.router.broker.thread != process.get_ident():
            return ask(importer.router, list(words))
    except ContextreeError:
        pass
    return None


def source(importer: "Importer", name: str) -> "str | None":
    """The text of module ``name``, or None."""
    records = question(importer, "source", name)
    if not records or records[0][1] != SOURCE:
        return None
    from importlib.util import decode_source
    from zlib import decompress

    return decode_source(decompress(records[0][3]))


def data(importer: "Importer", path: str) -> bytes:
    """The file ``path``, which is in the folder of a package as its ``__file__`` tells it; else FileNotFoundError.

    The root decides what may be had: a path that leads out of the package is refused there."""
    packages = [(record[2].rpartition("/")[0] + "/", name) for name, record in list(importer.records.items())
                if record[4] is True and record[2]]
    for folder, name in sorted(packages, reverse=True):  # the innermost first
        if path.startswith(folder):
            return Node(importer, name, path[len(folder):]).read_bytes()
    raise FileNotFoundError(2, "in no package that came from the master", path)


class Reader:
    """``importlib.resources`` for one package: the old ResourceReader protocol and ``files()``."""

    def __init__(self, importer: "Importer", package: str) -> None:
        self.importer = importer
        self.package = package

    def open_resource(self, resource: str) -> "io.BytesIO":
        """A binary file; FileNotFoundError when there is none."""
        return io.BytesIO(self.files().joinpath(resource).read_bytes())

    def resource_path(self, resource: str) -> str:
        """There is no path: nothing is written here."""
        raise FileNotFoundError(resource)

    def is_resource(self, name: str) -> bool:
        """Whether ``name`` is a file of the package."""
        return self.files().joinpath(name).is_file()

    def contents(self) -> "list[str]":
        """The names of files and folders of the package."""
        return [item.name for item in self.files().iterdir()]

    def files(self) -> "Node":
        """The folder of the package, as a Traversable."""
        return Node(self.importer, self.package, "", True)


class Node:
    """A file or folder of a package of the root: the ``importlib.resources.abc.Traversable`` protocol."""

    def __init__(self, importer: "Importer", package: str, path: str, folder: "bool | None" = None) -> None:
        self.importer = importer
        self.package = package
        self.path = path
        self.folder = folder
        self._names = None  # type: Any

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2] or self.package.rpartition(".")[2]

    def __repr__(self) -> str:
        return "<data %s:%s>" % (self.package, self.path)

    def _list(self) -> "list[Any]":
        if self._names is None:
            self._names = question(self.importer, "names", self.package, self.path) or []
        return self._names  # type: ignore[no-any-return]

    def iterdir(self) -> "Iterator[Node]":
        """What is in the folder."""
        for name, folder in self._list():
            yield Node(self.importer, self.package, (self.path + "/" + name).lstrip("/"), folder)

    def joinpath(self, *parts: str) -> "Node":
        """A node below."""
        path = "/".join([self.path] + [str(part) for part in parts]).strip("/")
        return Node(self.importer, self.package, path) if path else self

    def __truediv__(self, part: str) -> "Node":
        return self.joinpath(part)

    def is_file(self) -> bool:
        """Whether it is there and a file."""
        if self.folder is None and self.path:
            self.folder = {True: False}.get(question(self.importer, "is_file", self.package, self.path))
        return self.folder is False

    def is_dir(self) -> bool:
        """Whether it is there and a folder."""
        if self.folder is None:
            self.folder = True if question(self.importer, "names", self.package, self.path) is not None else None
        return self.folder is True

    def read_bytes(self) -> bytes:
        """The content; FileNotFoundError when there is none that may be had."""
        data = question(self.importer, "data", self.package, self.path)
        if data is None:
            raise FileNotFoundError("%s of package %s" % (self.path, self.package))
        return bytes(data)

    def read_text(self, encoding: "str | None" = None, errors: "str | None" = None) -> str:
        """The content as text, utf-8 by default."""
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def open(self, mode: str = "r", *args: "Any", **kwargs: "Any") -> "io.BytesIO | io.TextIOWrapper":
        """A file object, binary or text."""
        file = io.BytesIO(self.read_bytes())
        return file if "b" in mode else io.TextIOWrapper(file, *(args or ()), **dict({"encoding": "utf-8"}, **kwargs))


def distributions(importer: "Importer", context: "Any") -> "Iterator[Any]":
    """Distributions of the root for ``importlib.metadata``, those that it shares."""
    from importlib.metadata import Distribution  # novm: asked by importlib.metadata itself, so it is there

    class Remote(Distribution):
        """Metadata of a distribution that is installed at the root."""

        def __init__(self, files: "dict[str, str]") -> None:
            self._texts = files

        def read_text(self, filename: str) -> "str | None":
            """A file of the metadata, or None."""
            return self._texts.get(filename)

        def locate_file(self, path: "Any") -> "Any":
            """There is no path here."""
            return path

    name = getattr(context, "name", None)
    for item in [name] if name else question(importer, "distributions") or []:
        files = question(importer, "metadata", item)
        if files:
            yield Remote(files)
