"""What the tests have honest contexts do."""

import os


def echo(value):
    return value


def write(path, text):
    with open(path, "a") as file:
        file.write(text)


def exists(path):
    return os.path.exists(path)


def wait_for(path):
    """Return once ``path`` is there."""
    from tests.lab.poll import until

    until(lambda: os.path.exists(path), path)
    return "the true answer"


def repeat(data, count):
    return data * count


def count_up(number):
    yield from range(number)


def close_everything_that_polls():
    """Harm every epoll and socket that this process can reach, but for its own link."""
    import select

    poller = select.epoll()
    for fd in range(3, 64):
        try:
            target = os.readlink("/proc/self/fd/%d" % fd)
        except OSError:
            continue
        if "eventpoll" in target:
            for other in range(64):
                try:
                    poller.fromfd(os.dup(fd)).unregister(other + 1000)
                except (OSError, ValueError):
                    pass
    poller.close()
    return True


def call_other(other, value):
    return other.call(echo, value), other.id


def stream_other(other, number):
    return list(other.stream(count_up, number))


def police_here():
    from contextree.parent.router import current_router

    return current_router().stats()["police"]


def name_of(number):
    from contextree.parent.router import current_router

    return current_router().context_by_id(number).name


def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def stop_myself():
    import signal

    os.kill(os.getpid(), signal.SIGSTOP)


def leave_processes(count):
    """Forks that stay behind, deaf to all that can be ignored; their ids."""
    import os
    import signal

    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            os.closerange(0, 100)
            while True:
                signal.pause()
        pids.append(pid)
    return pids
