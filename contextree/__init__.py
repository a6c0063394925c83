"""contextree: a tree of Python interpreters, on this machine and on others, and functions called in all of them.

The names below are the whole public interface; everything else is how it works.
"""

import sys

from contextree.core.wire.errors import UnsupportedPlatform
from typing import TYPE_CHECKING



if sys.platform == "win32":  # before anything is imported that is not there
    raise UnsupportedPlatform("contextree does not run on Windows but in WSL: docs/decisions/0013-no-windows.md")

from contextree.core.wire.errors import (
    AuthenticationError, CallCancelled, CallTimeout, Closed, ConnectError, ConnectTimeout, ContextDied, ContextreeError,
    DecodeError, ForkedError, HostKeyError, InternalError, NotOurChild, NotSendable, Overflow, PeerError, ProcessExited,
    ProtocolError, Refused, RemoteError, UncleanExit, UsageError, VersionError, WorldError, WouldBlockLoop,
    WrongThread,
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
    from contextree.parent.jobs import Job, JobCall
else:
    def __getattr__(name: str) -> object:
        """The doors for event loops, and what else most programs have no use for, imported when first named."""
        if name in ("Job", "JobCall"):
            from contextree.parent import jobs

            return getattr(jobs, name)
        if name not in ("aio", "trio", "gevent", "cothread"):
            raise AttributeError(f"module 'contextree' has no attribute {name!r}")
        from importlib import import_module

        return import_module(f"contextree.{name}")
