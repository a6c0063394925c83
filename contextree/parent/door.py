"""What ``import contextree`` gives in a child context: the public names that mean something there.

The first stage makes an empty package ``contextree``; the first name that somebody takes from it loads this module. A
child forked directly from the root's process has the package itself.
"""

import sys
import types

from contextree.connect.plan import Plan, Secret
from contextree.core.wire.errors import (
    AuthenticationError,
    CallCancelled,
    CallTimeout,
    Closed,
    ConnectError,
    ConnectTimeout,
    ContextDied,
    ContextreeError,
    DecodeError,
    ForkedError,
    HostKeyError,
    InternalError,
    NotOurChild,
    NotSendable,
    Overflow,
    PeerError,
    ProcessExited,
    ProtocolError,
    Refused,
    RemoteError,
    UncleanExit,
    UnsupportedPlatform,
    UsageError,
    VersionError,
    WorldError,
    WouldBlockLoop,
    WrongThread,
)
from contextree.core.wire.values import register as register_type
from contextree.parent import router as _router
from contextree.parent.calls import Stream, register_exception
from contextree.parent.channel import Channel, select
from contextree.parent.context import Context
from contextree.parent.current import RunningCall, current_call
from contextree.parent.router import current_router

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextree.parent.future import CallFuture  # see _Lazy

__all__ = [
    "AuthenticationError",
    "CallCancelled",
    "CallFuture",
    "CallTimeout",
    "Channel",
    "Closed",
    "ConnectError",
    "ConnectTimeout",
    "Context",
    "ContextDied",
    "ContextreeError",
    "DecodeError",
    "ForkedError",
    "HostKeyError",
    "InternalError",
    "NotOurChild",
    "NotSendable",
    "Overflow",
    "PeerError",
    "Plan",
    "ProcessExited",
    "ProtocolError",
    "Refused",
    "RemoteError",
    "Router",
    "RunningCall",
    "Secret",
    "Stream",
    "UncleanExit",
    "UnsupportedPlatform",
    "UsageError",
    "VersionError",
    "WorldError",
    "WouldBlockLoop",
    "WrongThread",
    "current_call",
    "current_router",
    "register_exception",
    "register_type",
    "select",
]


class Router(_router.Router):
    """The router of a child context is there already: ``current_router()``. To make one here raises UsageError."""

    def __init__(self, *args: object, **options: object) -> None:
        raise UsageError("a child context has a router already: contextree.current_router()")


class _Lazy(types.ModuleType):
    """The class of this module (3.6 knows no ``__getattr__`` of modules): who names ``CallFuture`` has it imported."""

    def __getattr__(self, name: str) -> object:
        if name != "CallFuture":
            raise AttributeError("module 'contextree' has no attribute %r" % name)
        from contextree.parent.future import CallFuture

        return CallFuture


sys.modules[__name__].__class__ = _Lazy
