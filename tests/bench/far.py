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


def absorb(channel):
    """Take all that comes; how many bytes it was."""
    return sum(map(len, channel))


def pour(channel, size, total):
    """Send so many bytes, ``size`` at a time."""
    data = blob(size)
    for _ in range(total // size):
        channel.send(data)
    channel.send_eof()


def fetch(home, path, target):
    """For mitogen: have its FileService send ``path`` into the file ``target``."""
    import mitogen.service

    with open(target, "wb") as file:
        mitogen.service.FileService.get(context=home, path=path, out_fp=file)


def available():
    """Bytes of memory that the system could still give."""
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))


class Growing:
    """How many more of something fit: ``more()`` is False when the system's memory gets low."""

    def __init__(self):
        import resource

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.before = available()
        self.count = 0

    def more(self):
        """Is there room for another one?"""
        self.count += 1
        return self.count % 10 or available() > self.before // 5

    def each(self, count):
        """Bytes of the system's memory for each of them."""
        return max(0, self.before - available()) // max(1, count)
