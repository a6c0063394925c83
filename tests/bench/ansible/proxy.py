"""A process between ssh and sshd: it delays what passes, and counts bytes and turns.

    python -m tests.bench.ansible.proxy PORT ADDRESS...

It listens at each address (printed first: a JSON list of ports) and hands every connection to sshd at 127.0.0.1:PORT.
Each byte arrives DELAY later than it was sent, in both directions, however much is on its way: latency without a limit
of bandwidth, as tests/bench/delay.py makes it for a program's standard streams; this one does it for many connections
at once and belongs to neither side's accounts. A line ``begin DELAY`` on stdin begins a count; ``end`` prints what
was counted as JSON.

A turn: what is sent has the number of the latest thing that its sender had *received* by then, and one more. So the
highest number is the length of the longest chain of messages in which each could wait for the one before; two of them
make a round trip. Things that cross on their way count once.
"""

import collections
import json
import os
import select
import socket
import sys
import time


class End:
    """One of the two sockets of a connection. ``queue`` is what goes out here: [when, turn, data]; b"" is the end."""

    def __init__(self, sock, way):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.way = way  # its name in the count of bytes
        self.queue = collections.deque()
        self.heard = 0  # the latest turn that was delivered here
        self.other = None
        self.open = True  # may still say something

    def fileno(self):
        """For select."""
        return self.sock.fileno()


class Proxy:
    """The listeners, the connections and the counts."""

    def __init__(self, port, addresses):
        self.port = port
        self.delay = 0.0
        self.listeners = {socket.create_server((address, 0), backlog=100): address for address in addresses}
        self.ends = []
        self.begin(0)

    def begin(self, delay):
        """Count anew."""
        self.delay = delay
        self.bytes = {"out": 0, "back": 0}
        self.connections = dict.fromkeys(self.listeners.values(), 0)
        self.turns = dict.fromkeys(self.listeners.values(), 0)

    def counts(self):
        """What was counted: of turns the sum of all connections of an address, in the mean of those that were used."""
        used = [self.turns[address] for address, count in self.connections.items() if count]
        return {**self.bytes, "connections": sum(self.connections.values()), "turns": sum(used) / max(1, len(used))}

    def accept(self, listener):
        """A new connection."""
        try:
            near = End(listener.accept()[0], "out")
            far = End(socket.create_connection(("127.0.0.1", self.port)), "back")
        except OSError:
            return
        near.other, far.other = far, near
        near.address = far.address = self.listeners[listener]
        near.last = far.last = 0
        self.connections[near.address] += 1
        self.ends += [near, far]

    def hear(self, end):
        """Take what one end says."""
        try:
            data = end.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        turn = end.heard + 1
        if data:
            self.bytes[end.way] += len(data)
            longest = max(end.last, end.other.last)
            self.turns[end.address] += max(0, turn - longest)
            end.last = turn
        else:
            end.open = False
        end.other.queue.append([time.monotonic() + self.delay, turn, data])

    def deliver(self, end, now):
        """Pass on what is due; False when the other side takes no more for now."""
        while end.queue and end.queue[0][0] <= now:
            item = end.queue[0]
            try:
                if item[2]:
                    item[2] = item[2][end.sock.send(item[2]) :]
                else:
                    end.sock.shutdown(socket.SHUT_WR)
            except BlockingIOError:
                return False
            except OSError:
                item[2] = b""
                end.open = False
                end.queue.clear()
                end.queue.append(item)
            if not item[2]:
                end.heard = max(end.heard, item[1])
                end.queue.popleft()
        return True

    def step(self, others=()):
        """Wait for whatever comes next, and do it; those of ``others`` that are readable."""
        now = time.monotonic()
        full = [end for end in self.ends if not self.deliver(end, now)]
        for end in [end for end in self.ends if not (end.open or end.other.open or end.queue or end.other.queue)]:
            end.sock.close()
            self.ends.remove(end)
        due = [end.queue[0][0] for end in self.ends if end.queue and end not in full]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        reading = [end for end in self.ends if end.open]
        ready = select.select([*others, *self.listeners, *reading], full, [], timeout)[0]
        for each in ready:
            if each in self.listeners:
                self.accept(each)
            elif isinstance(each, End):
                self.hear(each)
        return [each for each in ready if each in others]


def main(port, addresses):
    """Serve until stdin ends."""
    proxy = Proxy(port, addresses)
    print(json.dumps([listener.getsockname()[1] for listener in proxy.listeners]), flush=True)
    while True:
        if proxy.step([0]):
            words = os.read(0, 1000).decode().split()  # the other end waits for each answer
            if not words:
                return
            if words[0] == "begin":
                proxy.begin(float(words[1]))
            print(json.dumps(proxy.counts()), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
