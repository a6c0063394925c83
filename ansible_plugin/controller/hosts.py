"""What the multiplexer does for workers: one link for each host and way, archives sent once over each, homes known."""

import collections
import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, wait
from typing import Any

import contextree
from contextree.connect.dialogue import ANSWERED
from contextree.parent import calls

from ..target import agent, archives, seats
from . import desk, looks
from .link import Link

LACKING = 20  # seconds for which a host without Python is not asked again: core runs what it has to run there


class Host:
    """One link, and what its host has and is."""

    def __init__(self, context: contextree.Context, early: bool, greets: str = "") -> None:
        self.context = context
        self.greets = greets  # see Link; "" once it is done
        self.words: bytes | None = None
        self.sent: set[str] = set()  # archives
        self.parts: set[bytes] = set()  # of archives
        self.ways: set[Any] = set()  # to other accounts that have been asked for
        self.homes: dict[Any, str] = {}
        self.refusals: dict[Any, Any] = {}  # seats that cannot be had, tried once in a run, and what was said
        self.lock = threading.Lock()
        self.requests: set[Any] = set()  # Futures of those that somebody waits for
        self.untold = early  # nobody needed it so far
        self.busy = 0
        self.dropped = self.ended = False

    def is_over(self) -> bool:
        """Whether another link is wanted. Where it was not had though nobody had asked, the first who asks is told so:
        a password that was wrong is not tried twice."""
        return self.context.state == "died" and not self.untold

    def enter(self) -> bool:
        """A request begins: the link lasts at least until it is over. False: the link is about to end."""
        with self.lock:
            self.busy += not self.dropped
            return not self.dropped

    def leave(self) -> None:
        """A request is over."""
        with self.lock:
            self.busy -= 1
            last = self.dropped and not self.busy
        if last:
            self.context.shutdown()

    def greeting(self, alone: bool) -> bytes:
        """What is to stand before what a command says on its standard error: what ssh has said as it connected, as it
        does in stock. ``alone``: the command is the first of its request."""
        with self.lock:
            greets = self.greets
            if greets == "once":
                self.greets = ""
        if not greets or (greets == "once" and not alone):
            return b""
        if self.words is None:
            branch: Any = self.context.engine.children.get(self.context.id)
            self.words = words = branch.greeting if branch is not None else b""
            if words:  # the login shell may have said something too, as it does again before each command
                answer = self.do([["command", None, [None, "-c", ":"]]])
                if answer[0] == "done":
                    self.words = words.removesuffix(answer[1][2])
        return self.words

    def drop(self) -> None:
        """End the link when the last request is over."""
        with self.lock:
            self.dropped = True
            idle = not self.busy
        if idle:
            self.context.shutdown()

    def cancel(self) -> "Future[None] | None":
        """Nobody waits for anything any more, now and later. A Future of the moment when all has ended; None: that is
        now, or nobody can know."""
        with self.lock:
            self.ended = True
            requests = list(self.requests)
        for future in requests:
            future.cancel()
        try:
            return self.context.submit(agent.ended) if requests else None
        except contextree.ContextreeError:
            return None

    def do(self, steps: list[list[Any]]) -> Any:
        """Have the agent do steps, for as long as somebody waits for that; its answer."""
        future = calls.submit(self.context, agent.do, (steps,), {}, self.context.options, flush=True)
        with self.lock:
            self.requests.add(future)
            if self.ended:
                future.cancel()
        try:
            desk.caller().on_cancel(future.cancel)
            return checked(future.result(), len(steps))
        except CancelledError:
            raise contextree.CallCancelled("nobody waits for this any more") from None
        finally:
            with self.lock:
                self.requests.discard(future)


def checked(answer: Any, count: int) -> Any:
    """What the other end says, which may be anybody: an answer to ``count`` steps."""
    if isinstance(answer, (tuple, list)) and len(answer) >= 3 and isinstance(answer[0], str):
        number, limit = (answer[2], 1000) if answer[0] == "done" else (answer[1], count)
        refused = answer[0] != "refused" or (len(answer) == 7 and all(isinstance(each, str) for each in answer[2:6]))
        if type(number) is int and 0 <= number < limit and refused:
            return tuple(answer)
    raise contextree.PeerError("this is no answer of an agent: %.100r" % (answer,))


def as_without_us(link: Link, files: int) -> Any:
    """A way to what runs here, with the limit of open files and the environment that there would be without us; others
    as they are."""
    plan = link.plan
    if link.environ is not None:
        plan = plan.copy(env={**dict.fromkeys(os.environ), **link.environ})
    if not files or plan.remote:
        return plan
    return plan.copy(argv=["/bin/sh", "-c", 'ulimit -S -n %d; exec "$@"' % files, "sh", *plan.argv])


def send_ahead(context: contextree.Context) -> None:
    """Send what the first task needs there. Each thing that is asked for costs a round trip."""
    context.engine.share_package(context, start="contextree.parent.current")
    names = "agent", "template", "again", "player", "pages", "modules"
    context.engine.share(context, {"%s.%s" % (agent.__package__, name) for name in names}, 0)


def send_way_ahead(context: contextree.Context, seat: Any) -> None:
    """Send what the start of a seat's interpreter needs there: forty modules."""
    engine = context.engine
    for start in "contextree.parent.door", "contextree.parent.importer", "contextree.connect.dialogue":
        engine.share_package(context, start=start)
    engine.share_package(context, seats.plan_of(seat, []))
    engine.share(context, {seats.__name__}, 0)


def key_of(seat: Any) -> Any:
    """A seat, to look it up by: however long it may take to get there."""
    return seat and seat._replace(seconds=0)


class Hosts:
    """What workers call. From any thread."""

    def __init__(self, router: contextree.Router, files: int = 0) -> None:
        """``files``: the limit of open files that programs here are to have; 0: that of this process."""
        self.router = router
        self.files = files
        self.lock = threading.Lock()
        self.clients: dict[str, str] = {}
        self.links: dict[str, Future[Host]] = {}
        self.recipes: dict[str, archives.Recipe] = {}
        self.parts: dict[bytes, bytes] = {}
        self.stats: dict[str, bool | None] = {}  # archives -> is it core's own ``stat``? None: it has come once
        self.counts: collections.Counter[str] = collections.Counter()
        self.lacking: dict[str, tuple[contextree.ConnectError, float]] = {}  # links -> why there is none, until when
        self.fallbacks: collections.Counter[str] = collections.Counter()

    def host(self, link: Link, early: bool = False) -> Host:
        """The host at the end of a link, which the first who asks begins to open: who calls something there is told
        whether that succeeds. ``early``: nobody needs it yet."""
        with self.lock:
            error, until = self.lacking.get(link.key, (None, 0))
            if error is not None and time.monotonic() < until:
                raise error.with_traceback(None)
            future = self.links.get(link.key)
            if future is not None and future.done() and (future.exception() or future.result().is_over()):
                future = None
            mine = future is None
            if future is None:
                future = self.links[link.key] = Future()
        if mine:
            try:
                # what is sent meanwhile goes behind the bundle: the first request costs no round trip of its own
                context = self.router.grow(as_without_us(link, self.files), threads=agent.THREADS, wait=False)
                send_ahead(context)
                future.set_result(Host(context, early, link.greets))
                self.count("links")
            except BaseException as error:
                future.set_exception(error)
        host = future.result()
        host.untold = host.untold and early
        return host

    @contextlib.contextmanager
    def using(self, link: Link) -> Iterator[Host]:
        """The same for a request, until whose end the link lasts, though it be dropped meanwhile."""
        host = self.host(link)
        while not host.enter():
            host = self.host(link)
        try:
            yield host
        except contextree.ConnectError as error:
            if error.phase == "boot":
                self.lacking[link.key] = error, time.monotonic() + LACKING
            raise
        finally:
            host.leave()

    def end(self) -> None:
        """The playbook has ended: what still runs is of no use any more."""
        with self.lock:
            futures = list(self.links.values())
        ends = [future.result().cancel() for future in futures if future.done() and not future.exception()]
        wait([end for end in ends if end is not None], agent.PATIENCE + 1)

    @contextree.expose
    def reach(self, link: Link, again: bool) -> str | None:
        """Open a link unless it is there; None, or why there is none. ``again``: try even where that failed before."""
        future = self.links.get(link.key)
        try:
            host = self.host(link) if again or future is None else future.result()
            host.context.ping()
        except contextree.ContextreeError as error:
            return str(error)
        return None

    @contextree.expose
    def client(self, link: Link, words: list[str]) -> str:
        """What a command on the controller says of how it would open this link (``ssh -G``), asked once."""
        if link.key not in self.clients:
            self.clients[link.key] = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                errors="replace", check=False).stdout
        return self.clients[link.key]

    @contextree.expose
    def prepare(self, link: Link, python: list[str] | None) -> None:
        """Open a link before it is needed, and start the template of an interpreter there. Returns when that is done;
        nothing is raised: who needs the host is told."""
        with contextlib.suppress(contextree.ContextreeError):
            host = self.host(link, early=True)
            if python:
                host.context.call(agent.prepare, python)

    @contextree.expose
    def do(self, link: Link, steps: list[list[Any]]) -> Any:
        """Do steps at a host; the answers are those of ``agent.do``, and ("want", digest): give that archive first."""
        for step in steps:
            if step[0] == "module":
                if step[2] not in self.recipes:
                    return "want", step[2]
                if step[4]["fqn"] == looks.MODULE:
                    step[4]["again"] = self.is_stat(step[2])
        with self.using(link) as host:
            seat = key_of(steps[-1][1]), tuple(steps[-1][4]["python"]) if steps[-1][0] == "module" else None
            if seat not in host.refusals:
                answer = self._do(host, steps)
                if answer[0] == "done" and host.greets:
                    said = host.greeting(len(steps) == 1)
                    if said and steps[-1][0] in ("command", "module"):
                        status, out, err = answer[1]
                        answer = (answer[0], (status, out, said + err), *answer[2:])
                if answer[0] == "refused":
                    self.count("refused")
                    # another time a password may be right
                    if answer[2] != "ConnectTimeout" and ANSWERED not in answer[5]:
                        host.refusals[seat] = answer[2:]
                return answer
            if len(steps) > 1:
                answer = self._do(host, steps[:-1])
                if answer[0] != "done":
                    return answer
            return ("refused", len(steps) - 1, *host.refusals[seat])

    def _do(self, host: Host, steps: list[list[Any]]) -> Any:
        self.count("requests")
        for seat in {key_of(step[1]) for step in steps} - {None, *host.ways}:
            host.ways.add(seat)
            send_way_ahead(host.context, seat)
        done = 0
        for _ in range(2 * len(steps) + 2):  # an honest one has what it was sent
            batch = [self._with_archive(host, step) for step in steps[done:]]
            answer = host.do(batch)
            if answer[0] == "done":
                self.count(*[step[0] for step in steps], *["escalations"] * answer[2])
                return answer
            done += answer[1]
            if answer[0] != "missing":
                return (answer[0], done, *answer[2:])
            host.sent.clear()  # it has lost some
            host.parts.clear()
        raise contextree.PeerError("%s loses every archive that it is sent" % host.context.name)

    def _with_archive(self, host: Host, step: list[Any]) -> list[Any]:
        """A step with what the host lacks of its archive. What is sent to it arrives in this order."""
        if step[0] != "module" or step[2] in host.sent:
            return step
        recipe = self.recipes[step[2]]
        lacking = {key: self.parts[key] for _, key in recipe[2] if key not in host.parts}
        host.parts.update(lacking)
        host.sent.add(step[2])
        return [*step[:3], (recipe, lacking), *step[4:]]

    def is_stat(self, digest: str) -> bool:
        """Whether an archive is core's own ``stat``. It is looked at when it comes for the second time."""
        if digest not in self.stats:
            self.stats[digest] = None
        elif self.stats[digest] is None:
            data = archives.put_together(self.recipes[digest], self.parts)
            self.stats[digest] = data is not None and looks.is_stat(data)
        return bool(self.stats[digest])

    @contextree.expose
    def archive(self, digest: str, data: bytes) -> None:
        """Keep an archive of modules."""
        recipe, parts = archives.take_apart(data)
        self.parts.update(parts)
        self.recipes[digest] = recipe

    @contextree.expose
    def later(self, link: Link, steps: list[list[Any]]) -> None:
        """Do steps that nobody waits for; where the link has been lost meanwhile, over a new one, and wait for that."""
        self.count("later", *[step[0] for step in steps])
        before = self.links.get(link.key)
        host = self.host(link)
        known = self.links.get(link.key) is before
        if host.enter():
            try:
                future = host.context.submit(agent.do, steps)
                future.add_done_callback(lambda future: host.leave())
            except contextree.ContextreeError:
                host.leave()
            else:
                with contextlib.suppress(contextree.ContextreeError):
                    known or future.result()

    @contextree.expose
    def home(self, link: Link, seat: Any, user: str) -> Any:
        """The home directory of a user, or of a seat's account; without such a seat, the answer that says so."""
        with self.using(link) as host:
            key = key_of(seat), user
            if key not in host.homes:
                answer = self.do(link, [["home", seat, user]])
                if answer[0] != "done":
                    return answer
                host.homes[key] = str(answer[1])
            return host.homes[key]

    @contextree.expose
    def put(self, link: Link, source: str, target: str, mode: int) -> None:
        """Copy a file to the host, into a folder that is ours there."""
        self.count("put")
        with self.using(link) as host:
            host.context.put(source, target, mode=mode, fsync=False)

    @contextree.expose
    def get(self, link: Link, source: str, target: str, mode: int) -> None:
        """Copy a file from the host."""
        self.count("get")
        with self.using(link) as host:
            host.context.get(source, target, mode=mode, fsync=False)

    @contextree.expose
    def drop(self, link: Link) -> None:
        """Forget a link: the next who wants the host opens a new one. As with stock's, what runs over it goes on."""
        with self.lock:
            future = self.links.pop(link.key, None)
            self.lacking.pop(link.key, None)
        if future is not None and not future.exception():
            future.result().drop()

    @contextree.expose
    def fell_back(self, reason: str) -> None:
        """Count that something was left to stock."""
        with self.lock:
            self.fallbacks[reason] += 1

    def count(self, *names: str) -> None:
        """Count what was done."""
        with self.lock:
            self.counts.update(names)

    def statistics(self) -> dict[str, Any]:
        """What was done, for tests and for people."""
        return {**self.counts, "fallbacks": dict(self.fallbacks)}
