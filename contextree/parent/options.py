"""The keyword arguments that are passed on, for type checkers; nobody imports this when a program runs."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import PathLike
    from typing import IO, Callable, Optional, Union

    from typing_extensions import TypedDict

    PathName = Union[str, bytes, "PathLike[str]", "PathLike[bytes]"]
    Source = Union[str, "PathLike[str]", "PathLike[bytes]", bytes, bytearray, memoryview, IO[bytes]]
    Progress = Union[None, bool, Callable[[int, Optional[int]], object]]

    class PutOptions(TypedDict, total=False):
        """What ``put_all`` takes: see ``Mover``."""

        mode: Optional[int]
        owner: Union[None, int, str]
        group: Union[None, int, str]
        preserve: Union[bool, str]
        resume: bool
        sparse: bool
        fsync: bool
        links: str
        special: str
        max_size: Optional[int]

    class CallOptions(TypedDict, total=False):
        """What ``with_options`` takes."""

        timeout: Optional[float]
        threads: int
        cancel: str
