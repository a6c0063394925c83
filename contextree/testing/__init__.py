"""Test tools for programs that use contextree, and for contextree itself. Nothing here is used in production.

* ``VirtualClock`` and its ``poller()``: a loop runs hours in milliseconds.
* ``joined_pair()``: two connected, owned, non-blocking sockets.
* ``FaultyPipe``, ``FaultyPoller``: short writes, EAGAIN, end of file, errors, readiness that is none.
* ``ScriptedChild``: a real child process whose link the test itself writes and reads.
"""

from contextree.testing.clock import VirtualClock, VirtualPoller
from contextree.testing.pipes import FaultyPipe, FaultyPoller, joined_pair
from contextree.testing.scripted import Frame, ScriptedChild

__all__ = ["FaultyPipe", "FaultyPoller", "Frame", "ScriptedChild", "VirtualClock", "VirtualPoller", "joined_pair"]
