"""The keyword arguments that are passed on, for type checkers; nobody imports this when a program runs."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import PathLike
    from typing import IO, Any, Callable, Dict, Iterable, Optional, Sequence, Union

    from _typeshed import StrPath
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

    class GrowOptions(TypedDict, total=False):
        """What every method that grows a child takes."""

        threads: int
        on_start: Iterable[Callable[[], object]]
        on_fork: Iterable[Callable[[], object]]
        log_level: int
        wait: bool

    class CallOptions(TypedDict, total=False):
        """What ``with_options`` takes."""

        timeout: Optional[float]
        threads: int
        cancel: str

    class SshOptions(TypedDict, total=False):
        """What ``ssh`` takes beside the host: see ``contextree.connect.ssh.plan``."""

        user: Optional[str]
        port: Union[None, int, str]
        identity_file: Optional[StrPath]
        password: Optional[str]
        passphrase: Optional[str]
        python: Union[str, Sequence[str]]
        ssh_config: Optional[StrPath]
        jump: Union[None, str, Sequence[str]]
        host_keys: str
        known_hosts: Optional[StrPath]
        extra_args: Sequence[str]
        ssh: Union[str, Sequence[str]]
        connect_timeout: Union[float, Dict[str, float]]
        keepalive: int
        keepalive_count: int
        compression: bool
        forward_agent: bool
        control_path: Optional[StrPath]
        plain_prompts: bool
        name: Optional[str]
