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


def descriptors():
    """Those of this process, when no program runs in it for anybody; else None."""
    from contextree.parent.engine import engine_of

    if engine_of(contextree.current_router().engine.core).jobs:
        return None
    return os.listdir("/proc/self/fd")


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


def run_marked(context, env, timeout):
    """Run a long program that can be found by its environment."""
    return context.run(["sleep", "1000"], add_env=env, timeout=timeout).returncode


def run_marked_below(env):
    """The same in a child of the context that this runs in."""
    return run_marked(contextree.current_router().fork(), env, 3600)


def popen_marked(context, env):
    """The same by popen: it is read until the deadline ends it."""
    with context.popen(["sleep", "1000"], add_env=env) as process:
        process.stdout.read()
        return process.wait()


def time_limit_of_run(context):
    """The seconds that a program of this call gets."""
    from contextree.parent import command

    job = command.Run(context, ["true"], None, None, None, None, True, 3600, False, None, None, None, None, None)
    job.close()
    return job.timeout


def run_too_late(context, env):
    """Wait until the time is over, then run something all the same."""
    contextree.current_call().wait_cancelled(20)
    context.run(["sleep", "1000"], add_env=env)
