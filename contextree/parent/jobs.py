"""Jobs as their masters see them: making them, finding them, taking them up, and what they have kept."""

import os
import pickle

from contextree.connect.plan import Plan, Secret
from contextree.core import calls as core_calls
from contextree.core import process
from contextree.core.wire.errors import CallTimeout, Closed, NotSendable, ProtocolError, UsageError, VersionError
from contextree.core.wire.frames import CONTROL, GOAWAY, NUMBER, PING, frame
from contextree.parent import boot, calls, job_door, job_place, job_services, pidfd, waits
from contextree.parent.boot import Branch
from contextree.parent.engine import engine_of
from contextree.parent.job_life import digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator

    from contextree.parent.boot import ChildLink
    from contextree.parent.context import Context
    from contextree.parent.engine import Engine

MOST = 1 << 40  # bytes of output
METHOD = "job"
ANY = Plan([], METHOD, METHOD)  # says which modules a job needs, and who looks after one
ARRIVE = 2.0  # seconds


class JobBranch(Branch):
    """A job that was taken up, among the children of ``engine``: it has a process, which is nobody's child here."""

    pidfd = None  # type: Any  # a descriptor, where the kernel has such

    def shutdown(self, grace: float, patience: float = 2.0) -> None:
        """End it: GOAWAY, then TERM, KILL, as far as that process is one of this user."""
        if self.state == "up":
            self.reason = self.reason or "it was shut down"
            self.link.send(CONTROL, frame(GOAWAY, 0, CONTROL, 0, self.id, self.engine.core.id, b"%f" % max(grace, 0.1)))
            if patience > 0:
                self.broker.timer(grace, self.signal, 15)
            self.broker.timer(grace + patience + 1.0, self.signal, 9)
            self.broker.timer(grace + patience + 2.0, self.link.close, "it was shut down")
        else:
            Branch.shutdown(self, grace, patience)

    def lost(self, link: "ChildLink", reason: str) -> None:
        """The link has closed."""
        Branch.lost(self, link, "its process has ended, or another master has taken it" if reason == "end of file"
                    else reason)

    def signal(self, number: int) -> None:
        """Send a signal, if it still lives. Loop thread."""
        if self.pidfd is not None and self.state != "dead":
            try:
                pidfd.send_signal(self.pidfd, number)
            except OSError:
                pass  # it has just ended

    def forget_process(self) -> None:
        """It has gone, or we let it go."""
        fd, self.pidfd = self.pidfd, None
        if fd is not None:
            process.close(fd)


def run_at(host: "Context", function: "Callable[..., Any]", *args: "Any", timeout: "float | None" = None) -> "Any":
    """``function(*args)`` in ``host``, on a service thread of it; here if it is this process."""
    host.engine.check_fork()
    waits.check(host.engine)
    if host.id == host.engine.core.id:
        return function(*args)
    host.engine.share_package(host, ANY)
    return host.service(function, *args, timeout=timeout)


# -- making one


def detach(context: "Context", directory: "str | os.PathLike[str] | None", time_to_live: "float | None",
           output_limit: int) -> Secret:
    """See ``Context.detach``."""
    if time_to_live is not None and not 0 < time_to_live <= 3e7:
        raise UsageError("time_to_live= wants seconds, up to a year (3e7), or None; not %r" % (time_to_live,))
    if not 0 < output_limit <= 1 << 40:
        raise UsageError("output_limit= wants a number of bytes, not %r" % (output_limit,))
    engine = context.engine
    options = None if directory is None else os.fspath(directory), time_to_live, output_limit
    info = engine.infos[context.id]
    if info.parent == engine.core.id:
        token = detach_here(engine, context.id, options)
    else:
        parent = engine.context(info.parent)
        engine.share_package(context, ANY)
        engine.share_package(parent, ANY)
        token = parent.service(detach_there, context.id, options)
    parse(token)  # it came from there
    return Secret(token)


def detach_here(engine: "Engine", number: int, options: "Any") -> str:
    """Make a job of a direct child; its token."""
    context = engine.context(number)
    engine.share_package(context, ANY)
    token = context.service(job_services.become, *options)

    def mark() -> None:
        branch = engine.children.get(number)
        if branch is not None:
            branch.detached = True
            branch.kept = True

    engine.broker.call(mark)
    return token


def detach_there(number: int, options: "Any") -> str:
    """``detach_here`` for an ancestor."""
    return detach_here(engine_of(core_calls.here.router), number, options)


def part(branch: Branch) -> None:
    """Let go of a job, once all that was sent to it has arrived, or ``ARRIVE`` seconds later. Loop thread."""
    broker, core, link = branch.broker, branch.engine.core, branch.link
    end = broker.clock() + ARRIVE
    branch.reason = branch.reason or "it was detached"

    def gone() -> None:
        branch.kept = False
        if branch.state == "up":
            branch.close_stderr()
            handle = branch.process
            if branch.plan.remote and handle is not None:
                after, branch.after = branch.after, None
                if after is not None:
                    after.leave(forever=True)
                link.close(str(branch.reason))
                handle.end(grace=0)  # ssh would wait here for as long as the job lives
            else:
                branch.release()

    def look() -> None:
        if branch.state != "up":
            return
        if (link.out or link.pending) and broker.clock() < end:  # a PING would overtake it
            broker.timer(0.01, look)
            return
        key = branch.id, next(core.numbers) & 0xffffffff
        core.pings[key] = gone
        link.send(CONTROL, frame(PING, 0, CONTROL, key[1], branch.id, core.id))
        broker.timer(max(0.0, end - broker.clock()), gone)

    link.flush()
    look()


# -- taking one up


def parse(token: str) -> "tuple[bytes, str]":
    """(secret, directory) of a token. UsageError, which does not show it."""
    from base64 import urlsafe_b64decode

    text = token.reveal() if isinstance(token, Secret) else token
    try:
        secret, directory = text.strip().split("@", 1)
        found = urlsafe_b64decode(secret.encode("ascii"))
        if len(found) != 24 or not os.path.isabs(directory) or not directory.isprintable():
            raise ValueError
    except (ValueError, AttributeError, TypeError):
        raise UsageError("this is no token of a job: detach(keep=True) gives one") from None
    return found, directory


def attach(host: "Context", token: str, force: bool, name: "str | None", timeout: float,
           options: "dict[str, Any]") -> "Context":
    """See ``Grower.attach``."""
    engine = host.engine
    secret, directory = parse(token)
    plan = Plan([], "job." + os.path.basename(directory) if name is None else name, METHOD, trusted=True)
    if "trusted" in options:
        plan = plan.copy(trusted=bool(options.pop("trusted")))
    options, threads = host.check_plan(plan, options)
    options.pop("wait", None)
    engine.check_fork()
    waits.check(engine)
    if host.id == engine.core.id:
        number = attach_to(engine, plan, secret, directory, force, timeout, options)
    else:
        engine.share_package(host, plan)
        number = host.service(attach_here, plan, secret, directory, force, timeout, options)
    context = engine.context(number)
    return context.with_options(threads=threads) if threads else context


def attach_here(plan: "Plan", secret: bytes, directory: str, force: bool, timeout: float,
                options: "dict[str, Any]") -> int:
    """``attach_to`` for an ancestor: the id."""
    return attach_to(engine_of(core_calls.here.router), plan, secret, directory, force, timeout, options)


def attach_to(engine: "Engine", plan: "Plan", secret: bytes, directory: str, force: bool, timeout: float,
              options: "dict[str, Any]") -> int:
    """Take a job up as a child of this context; its id."""
    if engine.ending or engine.core.closed:
        raise Closed(str(engine.core.closed or "%s is ending" % engine.core.name))
    options = dict(options)
    config = engine.child_options(plan, options)
    if options:
        raise UsageError("unknown options: %s" % ", ".join(sorted(options)))
    number = engine.allocate()
    branch = JobBranch(engine, number, boot.name_for(engine, plan, number), plan, plan.trusted)
    fd, pid, facts = job_door.connect(directory, secret, force, timeout)
    try:
        if facts["bundle"] != digest(engine.bundle):
            raise VersionError("the job in %s was started by another version of contextree: take it up by that one; "
                               "jobs() shows what it has kept" % directory, phase="login")
        data = pickle.dumps(boot.configuration(branch, config), 4)
        try:
            branch.pidfd = process.own(pidfd.open_pidfd(pid))
        except OSError:
            pass  # an old kernel, or another pid namespace: GOAWAY must do
        branch.on_dead.append(branch.forget_process)
        branch.detached = branch.kept = True
        engine.broker.call(branch.begin, fd, NUMBER.pack(len(data)) + data)
    except BaseException:
        branch.forget_process()
        process.close(fd)
        raise
    boot.wait_up(branch)
    return number


# -- what is kept


class JobCall:
    """One call that a job keeps: ``number``, ``name`` (of the function, ``?`` where it is not known), ``started`` and
    ``finished`` (``time.time()`` there; None while it runs), ``done``, ``failed``, as of when the Job was looked
    at.

    >>> with router.local(name="worker") as worker:
    ...     token = worker.detach(keep=True)
    ...     worker.job().calls
    []
    """

    def __init__(self, job: "Job", number: int, name: str, started: float, finished: "float | None", failed: bool,
                 done: bool) -> None:
        self.job = job
        self.number = number
        self.name = name
        self.started = started
        self.finished = finished
        self.failed = failed
        self.done = done

    def __repr__(self) -> str:
        state = "failed" if self.failed else "done" if self.done else "running"
        return "<JobCall %d %s, %s>" % (self.number, self.name, state)

    def result(self, timeout: "float | None" = None) -> "Any":
        """What the function returned, or what it raised, raised here. Waits for it where the job lives and was taken
        up. CallTimeout after ``timeout`` seconds; UsageError where it was not kept; NotSendable where it is no plain
        data and comes from a context that is not trusted."""
        return self.job._result(self.number, timeout)


class Job:
    """A job: what it is and what it has kept. Made by ``Context.job`` for one that was taken up, which can wait, and by
    ``jobs()`` for all that are there, living and dead, which looks at their files.

    ``directory``, ``name`` (of the context when it became a job), ``pid``, ``machine``, ``started``
    (``time.time()`` there), ``alive``, ``held`` (a master has it), ``dropped`` (bytes of output that are not kept any
    more), ``calls``: all as of the last ``refresh()``.

    >>> with router.local(name="worker") as worker:
    ...     token = worker.detach(keep=True)
    ...     worker.job()
    <Job worker, process ..., held>
    """

    def __init__(self, context: "Context", facts: "dict[str, Any]", taken: bool) -> None:
        self.context = context  # itself where ``taken``; else the one that found it
        self._taken = taken
        self._read(facts)

    def _read(self, facts: "dict[str, Any]") -> None:
        try:
            self.directory = str(facts["directory"])
            self.name, self.machine, self.python = (calls.visible(str(facts[key]))[:512]
                                                    for key in ("name", "machine", "python"))
            self.pid = int(facts["pid"])
            self.started = float(facts["started"])
            limit = facts["time_to_live"]
            self.time_to_live = None if limit is None else float(limit)
            self.alive, self.held = bool(facts["alive"]), bool(facts["held"])
            self.dropped, self.written = (int(number) for number in facts["output"])
            self.calls = [JobCall(self, int(number), calls.visible(str(name))[:512], float(started),
                                  None if finished is None else float(finished), bool(failed), bool(done))
                          for number, name, started, finished, failed, done in facts["calls"]]
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise ProtocolError("what %s says of a job makes no sense: %s" % (self.context.name, error)) from None

    def __repr__(self) -> str:
        state = "dead" if not self.alive else "held" if self.held else "alone"
        return "<Job %s, process %d, %s>" % (self.name, self.pid, state)

    def refresh(self) -> "Job":
        """Look again; returns itself. ContextDied where it was taken up and is gone, UsageError where its directory
        is."""
        if self._taken:
            facts = self.context.service(job_services.report)
        else:
            facts = run_at(self.context, job_place.look, self.directory)
            if facts is None:
                raise UsageError("there is no job in %s any more" % self.directory)
        self._read(facts)
        return self

    @property
    def done(self) -> bool:
        """Whether all its calls have ended, asked now."""
        return all(each.done for each in self.refresh().calls)

    def result(self, timeout: "float | None" = None) -> "Any":
        """``JobCall.result`` of the last one of its calls. UsageError where it has kept none."""
        found = self.calls or self.refresh().calls
        if not found:
            raise UsageError("%r keeps no call: none ran when its master went" % self)
        return found[-1].result(timeout)

    def _result(self, number: int, timeout: "float | None") -> "Any":
        context = self.context
        if self._taken:
            data = context.service(job_services.answer_of, number, timeout=timeout)
        else:
            data = run_at(context, job_place.read_result, self.directory, number)
        if data is None:
            if not self._taken and self.alive:
                raise CallTimeout("call %d of %r has not ended, or was answered: take the job up to wait for it"
                                  % (number, self))
            raise UsageError("%r has no answer of call %d: it did not end, or was answered" % (self, number))
        engine = context.engine
        info = engine.infos.get(context.id)
        trusted = context.id == engine.core.id or bool(info and info.trusted)
        if not trusted and data[0] in (core_calls.PICKLED, core_calls.BUFFERS):
            raise NotSendable("call %d of %r gave something that is no plain data, and %s is not trusted: "
                              "see trusted= of the method that reaches it" % (number, self, context.name))
        return calls.unpack(engine, trusted, data, context.id)

    def output(self, encoding: "str | None" = "utf-8") -> "Any":
        """What it has written to stdout and stderr since it became a job, as far as that is kept; ``encoding=None``:
        as bytes."""
        offset, parts = 0, []
        while True:
            function = job_services.output_now if self._taken else job_place.read_output
            args = (offset,) if self._taken else (self.directory, offset, job_services.CHUNK)
            start, data = run_at(self.context, function, *args)
            if not data:
                break
            if start < offset or start + len(data) > MOST:
                raise ProtocolError("%s has more output than a job keeps" % self.context.name)
            parts.append(data)
            offset = start + len(data)
        whole = b"".join(parts)
        return whole if encoding is None else whole.decode(encoding, "replace")

    def follow(self, timeout: "float | None" = None) -> "Iterator[str]":
        """Its output line by line, from the first that is kept, as it comes, until all its calls have ended.
        CallTimeout where none came for ``timeout`` seconds. UsageError unless it was taken up."""
        if not self._taken:
            raise UsageError("take the job up to follow it: attach(token).job().follow()")
        offset, rest, over = 0, b"", False
        while not over:
            start, data, over = self.context.service(job_services.output_from, offset, timeout=timeout)
            offset = start + len(data)
            lines = (rest + data).split(b"\n")
            rest = lines.pop()
            for line in lines:
                yield line.decode("utf-8", "replace")
        if rest:
            yield rest.decode("utf-8", "replace")

    def remove(self) -> None:
        """Remove what a dead job has left. UsageError while it lives: take it up and ``shutdown()`` it."""
        if not run_at(self.context, job_place.remove, self.directory) and run_at(self.context, job_place.look,
                                                                                 self.directory):
            raise UsageError("%r lives: take it up and shut it down" % self)


def job_of(context: "Context") -> Job:
    """See ``Context.job``."""
    if context.id == context.engine.core.id:
        raise UsageError("%s is no job" % context.name)
    context.engine.share_package(context, ANY)
    return Job(context, context.service(job_services.report), True)


def find(host: "Context", directory: "str | os.PathLike[str] | None") -> "list[Job]":
    """See ``Grower.jobs``."""
    found = run_at(host, job_place.scan, None if directory is None else os.fspath(directory))
    return [Job(host, facts, False) for facts in found]
