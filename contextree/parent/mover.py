"""Files to, from and between contexts, as methods of a context."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from contextree.parent.context import Context
    from contextree.parent.options import PathName, Progress, Source
    from contextree.parent.transfer import Transferred


class Mover:
    """``put``, ``get`` and ``copy_to``; what does it is imported when it is first used."""

    def put(self, source: "Source", destination: "PathName", *, mode: "int | None" = None,
            owner: "int | str | None" = None, group: "int | str | None" = None, preserve: "bool | str" = False,
            resume: bool = False, sparse: bool = True, fsync: bool = True, links: str = "keep", special: str = "error",
            max_size: "int | None" = None, progress: "Progress" = None) -> "Transferred":
        """Put ``source`` (a path as str or PathLike, the bytes themselves, or a binary file object) at the path
        ``destination`` there. Either all of it is in place when this returns, checked by its hash and on the disk, or
        nothing is and an exception says why: OSError with the path there, TransferError, ContextDied, CallTimeout.

        A folder goes with all that is in it. The options are told in docs/howto/files.md."""
        from contextree.parent import files

        return files.put(self, source, destination, files.options_of(
            mode, owner, group, preserve, resume, sparse, fsync, links, special, max_size), progress)

    def get(self, source: "PathName", destination: "PathName | IO[bytes]", *, mode: "int | None" = None,
            owner: "int | str | None" = None, group: "int | str | None" = None, preserve: "bool | str" = False,
            resume: bool = False, sparse: bool = True, fsync: bool = True, links: str = "keep", special: str = "error",
            max_size: "int | None" = None, progress: "Progress" = None) -> "Transferred":
        """Get the file or folder ``source`` from there to ``destination``: a path here, or a binary file object to
        write to. As ``put`` in all else.

        The other end has no say in where anything is put, and a name, a link or a length that does not fit ends the
        transfer with nothing in place."""
        from contextree.parent import files

        return files.get(self, source, destination, files.options_of(
            mode, owner, group, preserve, resume, sparse, fsync, links, special, max_size), progress)

    def read_bytes(self, source: "PathName", max_size: int = 1 << 30) -> bytes:
        """The content of the file ``source`` there. TransferError if it has more than ``max_size`` bytes."""
        from contextree.parent import files

        return files.read_bytes(self, source, max_size)

    def copy_to(self, source: "PathName", other: "Context", destination: "PathName", *, mode: "int | None" = None,
                owner: "int | str | None" = None, group: "int | str | None" = None, preserve: "bool | str" = False,
                resume: bool = False, sparse: bool = True, fsync: bool = True, links: str = "keep",
                special: str = "error", max_size: "int | None" = None, progress: "Progress" = None) -> "Transferred":
        """Copy the file or folder ``source`` of this context to the path ``destination`` of the context ``other``, as
        ``get`` and ``put`` would, without storing it on the way: the lowest context above both hands it on.

        No grant is needed, and none is given."""
        from contextree.parent import files

        return files.copy(self, source, other, destination, files.options_of(
            mode, owner, group, preserve, resume, sparse, fsync, links, special, max_size), progress)
