"""What ``import contextree`` gives in a child context: the public names that mean something there.

The first stage makes an empty package ``contextree``; the first name that somebody takes from it loads this module. A
child forked directly from the root's process has the package itself.
"""

import importlib
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

# pyright: reportUnsupportedDunderAll=false
# (those that are not here are in LAZY)
__all__ = [  # one a line: branches add to it
    "AuthenticationError",
    "CallCancelled",
    "CallFuture",  # noqa: F822  see LAZY
    "CallTimeout",
    "Channel",
    "Client",  # noqa: F822  see LAZY
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
    "Invitation",  # noqa: F822  see LAZY
    "Job",  # noqa: F822  see LAZY
    "JobCall",  # noqa: F822  see LAZY
    "Listener",  # noqa: F822  see LAZY
    "NotOurChild",
    "NotSendable",
    "OutputTooLarge",  # noqa: F822  see LAZY
    "Overflow",
    "PeerError",
    "Plan",
    "Process",  # noqa: F822  see LAZY
    "ProcessExited",
    "ProtocolError",
    "Refused",
    "RemoteError",
    "Router",
    "RunningCall",
    "Secret",
    "Service",
    "Stream",
    "TransferError",  # noqa: F822  see LAZY
    "Transferred",  # noqa: F822  see LAZY
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
    "join",  # noqa: F822  see LAZY
    "put_all",  # noqa: F822  see LAZY
    "register_exception",
    "register_type",
    "select",
]
# what few need is imported when somebody asks for it: name -> module
LAZY = {
    "CallFuture": "future",
    "Client": "join",
    "Invitation": "listen",
    "Job": "jobs",
    "JobCall": "jobs",
    "Listener": "listen",
    "OutputTooLarge": "command",
    "Process": "running",
    "TransferError": "transfer",
    "Transferred": "transfer",
    "join": "join",
    "put_all": "spread",
}


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
        return getattr(__import__("contextree.parent." + LAZY[name], fromlist=["*"]), name)


sys.modules[__name__].__class__ = _Lazy
