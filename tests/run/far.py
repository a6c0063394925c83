"""What the tests call in other contexts. Python 3.6 runs this too."""

import os

import contextree


def set_variable(name, value):
    """Change the environment of this process."""
    os.environ[name] = value


def caller(args):
    """A context as the caller: it runs programs in a child of its own."""
    with contextree.current_router().fork() as child:
        done = child.run(args, input=b"x" * 200000, timeout=50)
        with child.popen(["cat"]) as process:
            process.stdin.write(b"y")
            process.stdin.close()
            return done.returncode, done.stdout, process.stdout.read(), process.wait()


def run_elsewhere(context, args):
    """Run a program in a context beside this one, and print when it has begun."""
    return context.run(args, stdout=print).returncode


def peak():
    """The most memory that this process ever had, in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def own_child(status):
    """Start and reap a child of our own while programs run beside it."""
    import subprocess

    return [subprocess.call(["sh", "-c", "exit 3"]), status]


def steal_statuses():
    """Have the kernel throw away the statuses of all children of this process."""
    import signal

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
