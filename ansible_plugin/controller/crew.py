"""Workers that stay for the next task.

Core forks a worker for each task and host. Most of what a short task costs is that fork: pages are copied in the main
process and in the worker, caches are filled again in each. Here a worker that has done a task of a kind that is known
to leave nothing behind (see ``care``) stays, and is sent the next one. What the main process has changed meanwhile
(facts, registered variables) is sent along; where it changed something else (the inventory, the plays), and for tasks
of any other kind, a worker is forked as in stock. A worker leaves when ``care`` finds it no longer as it was, and
with the strategy's run.

What core sees is a ``Slot`` in the place of its ``WorkerProcess``: one for each task, alive until that is done.
"""

import collections
import contextlib
import copy
import gc
import inspect
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from ansible import constants as C  # noqa: N812  as everywhere in ansible
from ansible.executor.process.worker import WorkerProcess
from ansible.playbook.handler import Handler
from ansible.playbook.task import Task
from ansible.plugins import strategy as core
from ansible.plugins.strategy import free

from . import archives, builder, care, freight, kept, wake
from .worker import uninterrupted

CYCLES = 20_000  # objects after which a worker looks for cycles: every few tasks, and not several times in each
BEHIND = 1 << 20  # bytes of changes that a worker may lack before a new one is cheaper
ORDER = ("final_q", "task_vars", "host", "task", "play_context", "loader", "variable_manager", "shared_loader_obj",
         "worker_id")  # of core's WorkerProcess before ansible-core 2.19
FACTS = ("set_host_facts", "set_nonpersistent_facts", "set_host_variable", "clear_facts")
INVENTORY = ("add_dynamic_host", "add_dynamic_group", "reconcile_inventory", "refresh_inventory", "add_host",
             "add_group", "parse_sources", "subset", "restrict_to_hosts", "remove_restriction")
_LENGTH = struct.Struct("!Q")


class Slot:
    """A task that a worker is to do; what core takes for its worker."""

    def __init__(self, crew: "Crew", args: Any, kwargs: Any) -> None:
        self.crew, self.args, self.kwargs = crew, args, kwargs
        self.wanted = dict(zip(ORDER, args, strict=False), **kwargs)
        self.worker_id, self._task, self._host = (self.wanted[name] for name in ("worker_id", "task", "host"))
        self.worker: Worker | None = None
        self.done = False  # the worker is free for another task
        self.gone = False  # it has ended

    def start(self) -> None:
        """Have a worker begin."""
        self.worker = self.crew.begin(self)
        self.crew.builder.coming(self._task, self.wanted["task_vars"])

    def is_alive(self) -> bool:
        """Whether the slot is taken: the task is not done, or its worker is on its way out."""
        if self.worker is None or self.done or self.gone:
            return False
        if self.worker.is_free():
            self.done = True
            return False
        if self.worker.is_alive():
            return True
        self.gone = True
        self.crew.left(self.worker)
        return False

    def sign(self) -> int | None:
        """A file that can be read when that changes."""
        return self.worker.sign() if self.worker is not None and self.is_alive() else None

    @property
    def exitcode(self) -> int | None:
        """That of the worker, where it ended in this task."""
        return 0 if self.done or self.worker is None else self.worker.exitcode

    @property
    def pid(self) -> int | None:
        """The worker's."""
        return None if self.worker is None else self.worker.pid

    @property
    def worker_queue(self) -> Any:
        """What the worker reads answers to its prompts from."""
        return self.worker.worker_queue if self.worker else None

    def terminate(self) -> None:
        """End the worker."""
        if self.worker is not None:
            self.worker.terminate()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the worker to end, where it ends with this task."""
        if self.worker is not None and not self.done:
            self.worker.join(timeout)

    def close(self) -> None:
        """The slot is used again."""
        if self.worker is not None and not self.done:
            self.crew.left(self.worker)
            self.worker.close()


class Crew:
    """The workers of one run of a strategy, in the main process."""

    def __init__(self, strategy: Any, iterator: Any, play_context: Any) -> None:
        """Raises where core is not as expected; nothing is changed then."""
        if not {*ORDER} <= {*inspect.signature(WorkerProcess.__init__).parameters}:
            raise TypeError("WorkerProcess takes other arguments")
        self.strategy, self.play, self.play_context = strategy, iterator._play, play_context
        self.builder = builder.Builder(iterator)
        self.waker = wake.Waker(self._signs)
        self.manager = strategy._variable_manager
        self.workers: list[Worker] = []  # all that may stay, at work or free
        self.kinds: dict[Any, bool] = {}
        self.undo = contextlib.ExitStack()
        for thing in (strategy._loader, self.manager, self.manager._hostvars, strategy._inventory, self.play,
                      play_context):
            freight.anchor(thing)
        for host in strategy._inventory.get_hosts(ignore_limits=True, ignore_restrictions=True):
            freight.anchor(host)
        for block in iterator._blocks:
            for task in block.get_tasks():
                self._know(task)

    def _know(self, task: Any) -> None:
        """Have workers know what a task is in."""
        freight.anchor(task._role)
        above = task._parent
        while above is not None:
            freight.anchor(above)
            freight.anchor(above._role)
            above = above._parent

    # -- what changes in the main process

    def __enter__(self) -> "Crew":
        try:
            self._take_over()
            self.undo.enter_context(archives.shared())
            self.undo.callback(kept.end)
            self.undo.callback(self.builder.stop)
            self.builder.begin(self.strategy._inventory.get_hosts(self.play.hosts))
        except BaseException:
            self.__exit__()
            raise
        return self

    def _take_over(self) -> None:
        """Put what is ours in place of core's."""
        self.strategy._results = wake.Results(self.strategy._results, self.waker.wake)
        for module in (core, free):
            self.undo.callback(setattr, module, "time", module.time)
            module.time = self.waker
        self.undo.callback(setattr, core, "WorkerProcess", core.WorkerProcess)
        core.WorkerProcess = self.slot
        if hasattr(self.strategy, "_rpc_queue"):
            self._watch(self.strategy._rpc_queue, "put", None, self.waker.wake)
        for name in FACTS:
            self._watch(self.manager, name, self._fact)
        for name in INVENTORY:
            self._watch(self.strategy._inventory, name, self._changed)
        for name in ("_load_included_file", "_copy_included_file"):
            self._watch(self.strategy, name, self._changed)

    def __exit__(self, *error: object) -> None:
        self.undo.close()
        self.strategy._results = collections.deque(self.strategy._results)
        self.dismiss()
        self.waker.close()
        freight.forget()

    def _watch(self, thing: Any, name: str, before: Any, after: Any = None) -> None:
        """Be told of each call of a method."""
        method = getattr(thing, name, None)
        if method is None:
            return

        def watched(*args: Any, **kwargs: Any) -> Any:
            if before:
                before(name, args, kwargs)
            result = method(*args, **kwargs)
            if after:
                after()
            return result

        setattr(thing, name, watched)
        self.undo.callback(delattr, thing, name)

    def _fact(self, name: str, args: Any, kwargs: Any) -> None:
        """Something was learnt of a host: workers have to learn it, too."""
        if not self.workers or (args[-1] == {} and len(args) == 2):  # most actions of core set no facts
            return
        if name in ("set_host_facts", "clear_facts") and C.CACHE_PLUGIN not in ("memory", "ansible.builtin.memory"):
            self.dismiss()  # a worker must not write to a cache of facts that others see
            return
        try:
            change = freight.pack((name, args, kwargs), min(worker.known for worker in self.workers))
        except freight.Unknown:
            self.dismiss()
            return
        for worker in list(self.workers):
            worker.behind.append(change)
            worker.lacks += len(change)
            if worker.lacks > BEHIND:
                self.left(worker)

    def _changed(self, name: str, args: Any, kwargs: Any) -> None:
        """Something else has changed that workers have from their fork."""
        self.dismiss()

    def _signs(self) -> list[int]:
        """Files that tell when a worker becomes free, or ends."""
        signs = [slot.sign() for slot in self.strategy._workers if isinstance(slot, Slot)]
        return [sign for sign in signs if sign is not None]

    def dismiss(self) -> None:
        """Have no worker stay; those at work finish."""
        for worker in list(self.workers):
            self.left(worker)

    def left(self, worker: "Worker") -> None:
        """A worker does not stay: it goes when it has nothing to do."""
        if worker in self.workers:
            self.workers.remove(worker)
        worker.let_go()

    # -- tasks

    def slot(self, *args: Any, **kwargs: Any) -> Slot:
        """What core makes where it wants a WorkerProcess."""
        return Slot(self, args, kwargs)

    def begin(self, slot: Slot) -> "Worker":
        """Have a worker do a task: one that is free, or a new one."""
        stays = self.safe(slot.wanted)
        if stays:
            worker = self._free(slot.wanted["host"])
            if worker is not None:
                slot.wanted["loader"]._tempfiles = set()  # as core does for each worker
                if worker.send(slot.wanted, self.play):
                    worker.slot.done = True  # nobody need have asked before
                    worker.slot = slot
                    return worker
                self.left(worker)
            self._know(slot.wanted["task"])
        worker = Worker(*slot.args, **slot.kwargs)
        worker.enlist(self, stays, slot)
        with uninterrupted() as worker.as_before:
            slot.worker = worker  # core's handlers of signals tell the workers that they know
            worker.start()
            worker.far.close()
            if stays:
                self.workers.append(worker)
        return worker

    def _free(self, host: Any) -> "Worker | None":
        """A worker that has nothing to do; the one that did the host's last task, if it is free."""
        return next((worker for worker in self.workers if worker.host is host and worker.is_free()), None) or next(
            (worker for worker in self.workers if worker.is_free()), None)

    def safe(self, wanted: dict[str, Any]) -> bool:
        """Whether a task may be done by a worker that has done others, and leaves it fit for more."""
        task = wanted["task"]
        if type(task) not in (Task, Handler) or wanted["play_context"] is not self.play_context:
            return False
        if self.strategy.debugger_active or task.debugger not in (None, "never"):
            return False
        if "ansible_worker_session_isolation" in wanted["task_vars"]:
            return False
        key = (str(task.action), tuple(task.collections or ()))
        if key not in self.kinds:
            self.kinds[key] = care.safe_action(task.action, task.collections)
        return self.kinds[key]


class Worker(WorkerProcess):
    """Core's worker, which may stay for more tasks."""

    _host: Any
    as_before: Callable[[], list[int]]  # see ``uninterrupted``

    def enlist(self, crew: Crew, stays: bool, slot: Slot) -> None:
        """What the two sides need. Before the fork."""
        self.crew, self.stays, self.slot, self.host = crew, stays, slot, slot.wanted["host"]
        self.known = freight.anchors()
        self.near, self.far = socket.socketpair()
        self.free = False  # it has said so, and was sent nothing since
        self.behind: list[bytes] = []
        self.lacks = 0

    # -- in the main process

    def is_free(self) -> bool:
        """Whether it waits for a task."""
        if self.stays and not self.free:
            with contextlib.suppress(BlockingIOError):
                said = self.near.recv(1, socket.MSG_DONTWAIT)
                self.free = said == b"1"
                self.stays = said != b""
        return self.free

    def sign(self) -> int:
        """A file that can be read when it becomes free or ends."""
        return self.near.fileno() if self.stays else self.sentinel

    def send(self, wanted: dict[str, Any], play: Any) -> bool:
        """Have it do a task; False where that is not possible."""
        task = wanted["task"]
        try:
            data = freight.pack((self.behind, list(play._removed_hosts), type(task), task.__dict__, wanted["host"],
                                 wanted["task_vars"], wanted["worker_id"]), self.known)
            self.near.sendall(_LENGTH.pack(len(data)) + data)
        except (freight.Unknown, OSError):
            return False
        self.host, self.free, self.behind, self.lacks = wanted["host"], False, [], 0
        return True

    def let_go(self) -> None:
        """Have it end when it is free."""
        self.stays = False
        self.near.close()

    def close(self) -> None:
        """See core."""
        self.near.close()
        super().close()

    # -- in the worker

    def run(self) -> None:
        """Do the first task as core does, then more."""
        if self.as_before():  # it was forked for a run that is interrupted
            os._exit(1)
        self.near.close()
        self.crew.builder.leave()
        for other in self.crew.workers:
            if other is not self:
                other.near.close()
        self._host = copy.copy(self._host)  # core empties it in the end
        if not self.stays:
            super().run()
            return
        try:
            careful = care.Care(self._loader)
        except Exception:  # another core: what cannot be watched does not stay
            super().run()
            return
        gc.freeze()  # what the main process had is not looked through for cycles again and again, nor copied for that
        gc.set_threshold(max(CYCLES, gc.get_threshold()[0]))
        super().run()
        self._detach = lambda: None  # done
        while careful.unspoilt(self._task) and self._next():
            careful.reset()
            super().run()

    def _next(self) -> bool:
        """Wait for a task, and make it this worker's."""
        try:
            self.far.sendall(b"1")
            head = self._read(_LENGTH.size)
            data = self._read(_LENGTH.unpack(head)[0]) if head else b""
        except (OSError, KeyboardInterrupt):
            return False
        if not data:
            return False
        behind, removed, kind, fields, host, self._task_vars, self.worker_id = freight.unpack(data)
        for change in behind:
            name, args, kwargs = freight.unpack(change)
            getattr(self._variable_manager, name)(*args, **kwargs)
        self.crew.play._removed_hosts[:] = removed
        self._host = copy.copy(host)
        self._task = kind.__new__(kind)
        self._task.__dict__.update(fields)
        return True

    def _read(self, size: int) -> bytes:
        """This many bytes; none at the end."""
        parts = []
        while size:
            part = self.far.recv(min(size, 1 << 20))
            if not part:
                return b""
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
