"""What the tests of the warm template call in a context: a module run by a template, or as stock runs it."""

import os
import shlex
import subprocess
import sys
import threading
import time

from ansible_plugin.target import warm

template = warm.Template()
running = []  # one item for each run that is under way


def begin():
    """Have a template."""
    template.start()


def run(digest, data, task):
    """A module run by the template: (status, stdout, stderr) or MISSING."""
    running.append(digest)
    try:
        return template.run(digest, data, task)
    finally:
        running.pop()


def stock(text, env, cwd):
    """The same by a Python that is fed with the payload, under a shell."""
    whole = warm.environment()
    for name, value in env.items():
        whole.pop(name, None)
        if value is not None:
            whole[name] = value
    child = subprocess.Popen(["/bin/sh", "-c", shlex.quote(sys.executable)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=whole, cwd=cwd, start_new_session=True)
    out, err = child.communicate(text)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode, out, err


def pids():
    """The processes of the templates."""
    return [each.child.pid for each in template.processes.values()]


def known():
    """How many archives the templates have been sent."""
    return [len(each.known) for each in template.processes.values()]


def close():
    """End the templates, and begin anew."""
    global template
    ended = pids()
    template.close()
    template = warm.Template()
    return ended


def together(calls):
    """Several runs at once: their results."""
    results = [None] * len(calls)

    def one(index):
        results[index] = run(*calls[index])

    threads = [threading.Thread(target=one, args=(index,)) for index in range(len(calls))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return results


def memory():
    """Kilobytes that the template holds for itself."""
    total = 0
    for pid in pids():
        with open("/proc/%d/statm" % pid) as file:
            fields = file.read().split()
        total += (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE") // 1024
    return total


def descriptors():
    """How many descriptors this process and the template have open."""
    return [len(os.listdir("/proc/%d/fd" % pid)) for pid in [os.getpid()] + pids()]


def many(count, call):
    """The same module so many times; the results, each once."""
    return {run(*call) for _ in range(count)}


def seconds(call):
    """How long a run takes."""
    begin = time.monotonic()
    run(*call)
    return time.monotonic() - begin


def has(digest):
    """Whether the templates have an archive."""
    return template.has(digest)


def lengths(call):
    """A run's status, and how much it wrote."""
    status, out, err = run(*call)
    return status, len(out), len(err)


def limit(size):
    """How many bytes of archives are kept from now on."""
    warm.KEPT = size


def run_closed(*call):
    """The error of a template that was closed."""
    closed = warm.Template()
    closed.close()
    try:
        closed.run(*call)
    except RuntimeError as error:
        return str(error)
    return None


def busy():
    """How many runs are under way."""
    return len(running)


def spare():
    """The process that waits for a module; None where there is none, or one that is not so far yet."""
    for pid in pids():
        try:
            with open("/proc/%d/task/%d/children" % (pid, pid)) as file:
                children = file.read().split()
            if len(children) == 1 and len(os.listdir("/proc/%s/fd" % children[0])) == 4:
                return int(children[0])
        except OSError:
            pass  # it has just ended
    return None


def helpers():
    """The processes that run a module again and again, while nobody uses them."""
    return [each.helper.pid for each in template.processes.values() if each.helper]
