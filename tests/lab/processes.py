"""Facts about processes from /proc, by number: identity that survives reuse of a pid, children, owners."""

import os
import signal

from tests.lab.poll import until


def stat(pid):
    """(parent pid, state letter, start time) of a process, or None when there is no such process."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[1]), fields[0].decode(), int(fields[19])


def identity(pid):
    """[pid, start time]: two processes never share it; None when there is no such process."""
    facts = stat(pid)
    return facts and [pid, facts[2]]


def alive(who):
    """True while the process with this identity runs; a zombie does not."""
    facts = who and stat(who[0])
    return bool(facts) and facts[2] == who[1] and facts[1] not in "ZX"


def every():
    """The pids of all processes that can be seen."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def command_line(pid):
    """The words of a process in one line, or its short name when it has none (a zombie, a kernel thread)."""
    for name in ("cmdline", "comm"):
        try:
            with open("/proc/%d/%s" % (pid, name), "rb") as file:
                text = file.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if text:
            return text[:300]
    return "?"


def descendants(pid):
    """The identities of all processes below ``pid``, at this moment."""
    children = {}
    for other in every():
        facts = stat(other)
        if facts:
            children.setdefault(facts[0], []).append([other, facts[2]])
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += [who[0] for who in below]
    return found


def owned_by(uids):
    """The identities of all living processes whose real user is one of ``uids``."""
    found = []
    for pid in every():
        try:
            if os.stat("/proc/%d" % pid).st_uid in uids:
                found.append(identity(pid))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [who for who in found if alive(who)]


def end(identities, timeout=5.0):
    """Kill exactly these processes and wait until they are gone."""
    for who in identities:
        if alive(who):
            try:
                os.kill(who[0], signal.SIGKILL)
            except ProcessLookupError:
                continue
    until(lambda: not any(alive(who) for who in identities), "processes %r to end" % (identities,), timeout)
