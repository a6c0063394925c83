"""What runs in the other process, whoever made that process."""

import os
import threading

blobs = {}


def echo(value):
    """Give it back."""
    return value


def pid():
    """Of this process."""
    return os.getpid()


def blob(size):
    """Bytes of that size: the same ones each time, so that making them is not measured."""
    if size not in blobs:
        blobs.clear()
        blobs[size] = b"\x5a" * size
    return blobs[size]


def size_of(data):
    """How many bytes came."""
    return len(data)


def stream(size, count):
    """Yield ``count`` times the same bytes."""
    data = blob(size)
    for _ in range(count):
        yield data


def send_to(sender, size, count, kind=bytes):
    """The same for mitogen: send to one of its Senders; ``count`` 0: until the other end is gone."""
    data = kind(blob(size))
    for _ in range(count):
        sender.send(data)
    sender.close()


def send_beside(sender, size, count):
    """``send_to`` on a thread, so that calls are answered meanwhile."""
    threading.Thread(target=send_to, args=(sender, size, count), daemon=True).start()


def reset_peak():
    """Let ``peak`` count from now on; the resident bytes now."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return status("VmRSS")


def peak():
    """The most resident bytes since ``reset_peak``."""
    return status("VmHWM")


def status(name, pid="self"):
    """A line of /proc/PID/status that is a size, in bytes; a count where it has no unit."""
    with open("/proc/%s/status" % pid) as file:
        for line in file:
            if line.startswith(name + ":"):
                words = line.split()
                return int(words[1]) * (1024 if len(words) > 2 else 1)
    raise LookupError(name)
