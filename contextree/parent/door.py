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
from contextree.parent.service import Service, expose

__all__ = [
    "AuthenticationError",
    "CallCancelled",
    "CallFuture",  # noqa: F822  see below
    "CallTimeout",
    "Channel",
    "Client",  # noqa: F822
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
    "Invitation",  # noqa: F822
    "Listener",  # noqa: F822
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
    "Service",
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
    "expose",
    "join",  # noqa: F822
    "register_exception",
    "register_type",
    "select",
]
LAZY = {"CallFuture": "future", "Client": "join", "Invitation": "listen", "Listener": "listen", "join": "join"}


class Router(_router.Router):
    """The router of a child context is there already: ``current_router()``. To make one here raises UsageError."""

    def __init__(self, *args: object, **options: object) -> None:
        raise UsageError("a child context has a router already: contextree.current_router()")


class _Lazy(types.ModuleType):
    """The class of this module (3.6 knows no ``__getattr__`` of modules): who names what is in ``LAZY`` has it
    imported."""

    def __getattr__(self, name: str) -> object:
        if name not in LAZY:
            raise AttributeError("module 'contextree' has no attribute %r" % name)
        module = "contextree.parent." + LAZY[name]
        __import__(module)
        return getattr(sys.modules[module], name)


sys.modules[__name__].__class__ = _Lazy
