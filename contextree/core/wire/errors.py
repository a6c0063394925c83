"""The one error tree of contextree.

The branch says whose fault it was, so that a caller can decide what to do without reading text:

* ``UsageError``    the caller's: a bad argument, a call from the wrong thread, an object from another process.
* ``PeerError``     the other end's: it sent what it may not send, or the function there raised.
* ``WorldError``    nobody's: a process died, a link broke, a host did not answer, time ran out.
* ``InternalError`` ours: please report it.

Data is in fields, the message names the thing, what was found and what to do next.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class ContextreeError(Exception):
    """Base of every error that contextree raises itself.

    Keyword arguments become attributes: ``ConnectError("...", phase="login").phase``.

    >>> contextree.ContextreeError("no luck", tries=3).tries
    3
    """

    def __init__(self, message: str = "", **fields: "Any") -> None:
        Exception.__init__(self, message)
        self.__dict__.update(fields)

    def __reduce__(self) -> "tuple[Any, ...]":
        return _rebuild, (type(self), str(self), dict(self.__dict__))


def _rebuild(kind: "type[ContextreeError]", message: str, fields: "dict[str, Any]") -> "ContextreeError":
    return kind(message, **fields)


class UsageError(ContextreeError):
    """The caller's fault; nothing was sent.

    >>> router.local(python="")
    Traceback (most recent call last):
    UsageError: python= wants a command such as ...
    """


class ForkedError(UsageError):
    """The object belongs to the process that this one was forked from.

    >>> issubclass(contextree.ForkedError, contextree.UsageError)
    True
    """


class WrongThread(UsageError):
    """This method may only be called on the broker thread (or never on it).

    >>> router.broker.check_thread()
    Traceback (most recent call last):
    WrongThread: only the loop thread may do this; use defer() or call()
    """


class WouldBlockLoop(UsageError):
    """A blocking call on the thread of an event loop or of the broker.

    >>> router.broker.call(web.call, int)
    Traceback (most recent call last):
    WouldBlockLoop: call() on the loop thread would wait for itself; use submit()
    """


class Overflow(UsageError):
    """A bounded queue is full and the caller asked not to wait.

    >>> issubclass(contextree.Overflow, contextree.UsageError)
    True
    """


class Closed(UsageError):
    """The channel, mailbox, broker or router was closed.

    >>> with contextree.Router() as other:
    ...     pass
    >>> other.local()
    Traceback (most recent call last):
    Closed: the router master was closed
    """


class NotSendable(UsageError, TypeError):
    """A function, argument or result cannot be sent; says which part and why.

    >>> web.call(print, router.broker)
    Traceback (most recent call last):
    NotSendable: the call of print cannot be sent: ...
    """


class UnsupportedPlatform(UsageError, ImportError):
    """contextree does not run on this operating system.

    >>> issubclass(contextree.UnsupportedPlatform, ImportError)
    True
    """


class NotOurChild(UsageError):
    """The process is not a child of this one, so it cannot be waited for.

    >>> from contextree import processes
    >>> processes.Reaper(router.broker).monitor(1)
    Traceback (most recent call last):
    NotOurChild: process 1 is not a child of this one ...
    """


class ProcessExited(UsageError):
    """The child has ended already: nothing was signalled, its pid may belong to another process by now.

    Fields: ``state`` (a ChildState, or None where it has not been read yet).

    >>> from contextree import processes
    >>> child = processes.start(["true"], reaper=processes.Reaper(router.broker))
    >>> child.wait().clean()
    True
    >>> child.terminate()
    Traceback (most recent call last):
    ProcessExited: ...
    """

    state = None


class PeerError(ContextreeError):
    """The other end's fault.

    >>> issubclass(contextree.RemoteError, contextree.PeerError)
    True
    """


class ProtocolError(PeerError):
    """A frame broke a rule of the wire; the link or channel it came on was reset.

    >>> issubclass(contextree.ProtocolError, contextree.PeerError)
    True
    """


class DecodeError(ProtocolError):
    """A value broke the codec's format or limits.

    >>> issubclass(contextree.DecodeError, contextree.ProtocolError)
    True
    """


class Refused(PeerError):
    """A policy said no: no grant, not shared, not allowed upward.

    >>> with router.local(name="sibling") as sibling:
    ...     web.call(contextree.Context.call, sibling, int)
    Traceback (most recent call last):
    Refused: master: context ... was not granted access to context ...
    """


class RemoteError(PeerError):
    """What happened in another context: the text of a remote exception.

    Fields: ``type_name``, ``text``, ``traceback`` (text, shortened in the middle when long), ``context`` (name).

    >>> try:
    ...     web.call(int, "x")
    ... except ValueError as error:
    ...     print(error.__cause__.type_name, "in", error.__cause__.context)
    builtins.ValueError in web
    """

    type_name = text = traceback = context = ""

    def __str__(self) -> str:
        out = Exception.__str__(self)
        return out + "\n" + self.traceback.rstrip() if self.traceback else out


class WorldError(ContextreeError):
    """Nobody's fault.

    >>> issubclass(contextree.ContextDied, contextree.WorldError)
    True
    """


class CallTimeout(WorldError, TimeoutError):
    """Time ran out while waiting; the call may still be running there.

    >>> import time
    >>> web.with_options(timeout=0.05, threads=2).call(time.sleep, 0.5)
    Traceback (most recent call last):
    CallTimeout: web did not answer sleep within 0.05 s
    """


class CallCancelled(WorldError):
    """The call was cancelled before or while it ran.

    >>> issubclass(contextree.CallCancelled, contextree.WorldError)
    True
    """


class ConnectError(WorldError):
    """A context could not be started or reached.

    Fields: ``context`` (full name of what was being started), ``via`` (name of the context that tried), ``phase``
    (start, connect, login, boot), ``command``, ``status``, ``output`` (last lines); of ``open``: ``hop`` and ``hops``
    (which one of how many it was), ``address`` (of that hop).

    >>> try:
    ...     router.local(python="/no/such/python")
    ... except contextree.ConnectError as error:
    ...     print(error.phase)
    start
    """

    context = via = phase = command = output = address = ""
    status = hop = hops = None


class ConnectTimeout(ConnectError, TimeoutError):
    """A phase of connecting took longer than its limit.

    >>> issubclass(contextree.ConnectTimeout, TimeoutError)
    True
    """


class AuthenticationError(ConnectError):
    """The account was refused, or a secret was asked for that nobody gave.

    >>> issubclass(contextree.AuthenticationError, contextree.ConnectError)
    True
    """


class HostKeyError(ConnectError):
    """The host's key is unknown or has changed.

    >>> issubclass(contextree.HostKeyError, contextree.ConnectError)
    True
    """


class VersionError(ConnectError):
    """The interpreter there is too old, or speaks another version of the protocol.

    >>> issubclass(contextree.VersionError, contextree.ConnectError)
    True
    """


class ContextDied(WorldError):
    """The context ended while something waited for it.

    Fields: ``context`` (name), ``reason``, ``status`` (a ChildState or None), ``output`` (last lines).

    >>> worker = router.local(name="worker")
    >>> worker.kill()
    >>> worker.call(int)
    Traceback (most recent call last):
    ContextDied: worker ended: ...
    """

    context = reason = output = ""
    status = None


class UncleanExit(WorldError):
    """A child ended with a status other than 0, by a signal, or its status was lost.

    Fields: ``state`` (a ChildState), ``command``.

    >>> from contextree import processes
    >>> child = processes.start(["false"], reaper=processes.Reaper(router.broker))
    >>> child.wait().check()
    Traceback (most recent call last):
    UncleanExit: process ... (false) exited with status 1
    """

    state = None
    command = ""


class InternalError(ContextreeError):
    """Ours.

    >>> issubclass(contextree.InternalError, contextree.ContextreeError)
    True
    """
