"""contextree: a tree of Python interpreters, on this machine and on others, and functions called in all of them.

The names below are the whole public interface; everything else is how it works.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if sys.platform == "win32":  # before anything is imported that is not there
    from contextree.core.wire.errors import UnsupportedPlatform

    raise UnsupportedPlatform("contextree does not run on Windows but in WSL: docs/decisions/0013-no-windows.md")

__version__ = "0.1.0"

__all__ = [  # one a line: branches add to it
    "AuthenticationError",
    "CallCancelled",
    "CallFuture",
    "CallTimeout",
    "Channel",
    "Client",
    "Closed",
    "ConnectError",
    "ConnectTimeout",
    "Context",
    "ContextDied",
    "ContextreeError",
    "DecodeError",
    "Executor",
    "ForkedError",
    "GatherError",
    "HostKeyError",
    "InternalError",
    "Invitation",
    "Job",
    "JobCall",
    "Listener",
    "NotOurChild",
    "NotSendable",
    "Outcome",
    "OutputTooLarge",
    "Overflow",
    "PeerError",
    "Plan",
    "Process",
    "ProcessExited",
    "ProtocolError",
    "Refused",
    "RemoteError",
    "Results",
    "Router",
    "RunningCall",
    "Secret",
    "Service",
    "Stream",
    "TransferError",
    "Transferred",
    "UncleanExit",
    "UnsupportedPlatform",
    "UsageError",
    "VersionError",
    "WorkerDied",
    "WorldError",
    "WouldBlockLoop",
    "WrongThread",
    "current_call",
    "current_router",
    "expose",
    "gather",
    "gather_iter",
    "join",
    "put_all",
    "register_exception",
    "register_type",
    "select",
]

if TYPE_CHECKING:  # a type checker is told what there is, and that there is nothing else
    from contextree import aio, cothread, gevent, trio
    from contextree.core.wire.errors import (
        AuthenticationError, CallCancelled, CallTimeout, Closed, ConnectError, ConnectTimeout, ContextDied,
        ContextreeError, DecodeError, ForkedError, HostKeyError, InternalError, NotOurChild, NotSendable, Overflow,
        PeerError, ProcessExited, ProtocolError, Refused, RemoteError, UncleanExit, UnsupportedPlatform, UsageError,
        VersionError, WorldError, WouldBlockLoop, WrongThread,
    )
    from contextree.connect.plan import Plan, Secret
    from contextree.core.wire.values import register as register_type
    from contextree.master.executor import Executor
    from contextree.master.gather import gather, gather_iter, GatherError, Outcome, Results
    from contextree.master.router import Router
    from contextree.master.worker import WorkerDied
    from contextree.parent.calls import register_exception, Stream
    from contextree.parent.channel import Channel, select
    from contextree.parent.command import OutputTooLarge
    from contextree.parent.context import Context
    from contextree.parent.current import current_call, RunningCall
    from contextree.parent.future import CallFuture
    from contextree.parent.join import Client, join
    from contextree.parent.listen import Invitation, Listener
    from contextree.parent.router import current_router
    from contextree.parent.running import Process
    from contextree.parent.service import expose, Service
    from contextree.parent.spread import put_all
    from contextree.parent.transfer import TransferError, Transferred
    from contextree.parent.jobs import Job, JobCall
else:
    # Each is imported when it is first named: a program that joins a tree needs a tenth of this, and in little time.
    _WHERE = {
        "contextree.core.wire.errors": (
            "AuthenticationError CallCancelled CallTimeout Closed ConnectError ConnectTimeout ContextDied "
            "ContextreeError DecodeError ForkedError HostKeyError InternalError NotOurChild NotSendable Overflow "
            "PeerError ProcessExited ProtocolError Refused RemoteError UncleanExit UnsupportedPlatform UsageError "
            "VersionError WorldError WouldBlockLoop WrongThread"
        ),
        "contextree.connect.plan": "Plan Secret",
        "contextree.master.executor": "Executor",
        "contextree.master.gather": "GatherError Outcome Results gather gather_iter",
        "contextree.master.router": "Router",
        "contextree.master.worker": "WorkerDied",
        "contextree.parent.calls": "Stream register_exception",
        "contextree.parent.channel": "Channel select",
        "contextree.parent.command": "OutputTooLarge",
        "contextree.parent.context": "Context",
        "contextree.parent.current": "RunningCall current_call",
        "contextree.parent.future": "CallFuture",
        "contextree.parent.join": "Client join",
        "contextree.parent.listen": "Invitation Listener",
        "contextree.parent.router": "current_router",
        "contextree.parent.running": "Process",
        "contextree.parent.service": "Service expose",
        "contextree.parent.spread": "put_all",
        "contextree.parent.transfer": "TransferError Transferred",
        "contextree.parent.jobs": "Job JobCall",
    }
    _MODULES = {name: module for module, names in _WHERE.items() for name in names.split()}

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            found = getattr(import_module(_MODULES[name]), name)
        elif name == "register_type":
            found = import_module("contextree.core.wire.values").register
        elif name in ("aio", "trio", "gevent", "cothread"):
            return import_module("contextree." + name)
        else:
            raise AttributeError(f"module 'contextree' has no attribute {name!r}")
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

