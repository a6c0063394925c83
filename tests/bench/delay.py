"""A program that stands before another and delays what goes in and out: ``delay.py SECONDS PROGRAM ARGUMENT...``

Each byte arrives SECONDS later than it was sent, in both directions, however much is on its way: latency without any
limit of bandwidth. As a ProxyCommand or in place of a Python it makes a far host of this one.
"""

import collections
import os
import select
import subprocess
import sys
import time


def main(delay, command):
    """Relay until both directions have ended; the program's exit status."""
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    lines = {0: child.stdin.fileno(), child.stdout.fileno(): 1}
    waiting = {source: collections.deque() for source in lines}  # [when, bytes], b"": the end
    reading = set(lines)
    while waiting:
        due = [queue[0][0] for queue in waiting.values() if queue]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        ready = select.select(list(reading), [], [], timeout)[0]
        now = time.monotonic()
        for source in ready:
            data = os.read(source, 1 << 18)
            if not data:
                reading.discard(source)
            waiting[source].append([now + delay, data])
        for source, queue in list(waiting.items()):
            while queue and queue[0][0] <= now:
                data = queue.popleft()[1]
                try:
                    if not data:
                        del waiting[source]
                        if source == 0:
                            child.stdin.close()
                        else:
                            return child.wait()
                    while data:
                        data = data[os.write(lines[source], data) :]
                except BrokenPipeError:
                    reading.discard(source)
                    waiting.pop(source, None)
                    break
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
