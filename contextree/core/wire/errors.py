"""The one error tree of contextree.

The branch says whose fault it was, so that a caller can decide what to do without reading text:

* ``UsageError``    the caller's: a bad argument, a call from the wrong thread, an object from another process.
* ``PeerError``     the other end's: it sent what it may not send, or the function there raised.
* ``WorldError``    nobody's: a process died, a link broke, a host did not answer, time ran out.
* ``InternalError`` ours: please report it.

Data is in fields, the message names the thing, what was found and what to do next.
"""


class ContextreeError(Exception):
    """Base of every error that contextree raises itself.

    Keyword arguments become attributes: ``ConnectError("...", phase="login").phase``.
    """

    def __init__(self, message="", **fields):
        Exception.__init__(self, message)
        self.__dict__.update(fields)

    def __reduce__(self):
        return _rebuild, (type(self), str(self), dict(self.__dict__))


def _rebuild(kind, message, fields):
    return kind(message, **fields)


class UsageError(ContextreeError):
    """The caller's fault; nothing was sent."""


class ForkedError(UsageError):
    """The object belongs to the process that this one was forked from."""


class WrongThread(UsageError):
    """This method may only be called on the broker thread (or never on it)."""


class WouldBlockLoop(UsageError):
    """A blocking call on the thread of an event loop or of the broker."""


class Overflow(UsageError):
    """A bounded queue is full and the caller asked not to wait."""


class Closed(UsageError):
    """The channel, mailbox, broker or router was closed."""


class NotSendable(UsageError, TypeError):
    """A function, argument or result cannot be sent; says which part and why."""


class UnsupportedPlatform(UsageError, ImportError):
    """contextree does not run on this operating system."""


class NotOurChild(UsageError):
    """The process is not a child of this one, so it cannot be waited for."""


class ProcessExited(UsageError):
    """The child has ended already: nothing was signalled, its pid may belong to another process by now.

    Fields: ``state`` (a ChildState, or None where it has not been read yet)."""

    state = None


class PeerError(ContextreeError):
    """The other end's fault."""


class ProtocolError(PeerError):
    """A frame broke a rule of the wire; the link or channel it came on was reset."""


class DecodeError(ProtocolError):
    """A value broke the codec's format or limits."""


class Refused(PeerError):
    """A policy said no: no grant, not shared, not allowed upward."""


class RemoteError(PeerError):
    """What happened in another context: the text of a remote exception.

    Fields: ``type_name``, ``text``, ``traceback`` (text, shortened in the middle when long), ``context`` (name).
    """

    type_name = text = traceback = context = ""

    def __str__(self):
        out = Exception.__str__(self)
        return out + "\n" + self.traceback.rstrip() if self.traceback else out


class WorldError(ContextreeError):
    """Nobody's fault."""


class CallTimeout(WorldError, TimeoutError):
    """Time ran out while waiting; the call may still be running there."""


class CallCancelled(WorldError):
    """The call was cancelled before or while it ran."""


class ConnectError(WorldError):
    """A context could not be started or reached.

    Fields: ``phase`` (start, connect, login, boot), ``command``, ``status``, ``output`` (last lines).
    """

    phase = command = output = ""
    status = None


class ConnectTimeout(ConnectError, TimeoutError):
    """A phase of connecting took longer than its limit."""


class AuthenticationError(ConnectError):
    """The account was refused, or a secret was asked for that nobody gave."""


class HostKeyError(ConnectError):
    """The host's key is unknown or has changed."""


class VersionError(ConnectError):
    """The interpreter there is too old, or speaks another version of the protocol."""


class ContextDied(WorldError):
    """The context ended while something waited for it.

    Fields: ``context`` (name), ``reason``, ``status`` (a ChildState or None), ``output`` (last lines).
    """

    context = reason = output = ""
    status = None


class UncleanExit(WorldError):
    """A child ended with a status other than 0, by a signal, or its status was lost.

    Fields: ``state`` (a ChildState), ``command``.
    """

    state = None
    command = ""


class InternalError(ContextreeError):
    """Ours."""
