"""Starting contexts, awaited."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from contextree.core.wire.errors import CallCancelled, Closed, ContextreeError
from contextree.core.wire.frames import SERVICE
from contextree.loops import calling
from contextree.loops.channels import Channel
from contextree.loops.services import Service
from contextree.loops.threads import in_thread
from contextree.loops.waiting import EventLoop, take
from contextree.parent import control, opening
from contextree.parent.channel import Channel as SyncChannel
from contextree.parent.context import Context as SyncContext
from contextree.parent.grower import Grower as SyncGrower
from contextree.parent.service import Service as SyncService

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from contextree.connect import (
        buildah,
        chroot,
        doas,
        docker,
        incus,
        jail,
        kubectl,
        lxc,
        lxd,
        machinectl,
        nspawn,
        podman,
        runuser,
        setns,
        ssh,
        su,
        sudo,
    )
    from contextree.loops.context import Context
    from contextree.loops.jobs import Job
    from contextree.parent.opening import Address, Options


C = TypeVar("C", bound="Context[Any]")  # what this loop's contexts are


class Plans(SyncGrower):
    """Takes what a method of a Grower would start, instead of starting it."""

    def __init__(self, sync: Any) -> None:
        self.engine = sync.engine
        self.sync = sync

    def _grow(self, plan: Any, options: dict[str, Any]) -> Any:
        return self.sync, plan, options


class Grower(Generic[C]):
    """``fork``, ``local``, ``ssh``: children of this context, as in ``contextree.Router``, awaited until they are up.

    Cancelled meanwhile: the child is ended."""

    loop: EventLoop
    sync: Any

    def _wrap(self, context: SyncContext) -> C:
        raise NotImplementedError

    def wrapped(self, value: Any) -> Any:
        """A result as this loop's programs want it: a Context, a Channel or a Service to be awaited; all else is
        itself."""
        if isinstance(value, SyncContext):
            return self._wrap(value)
        if isinstance(value, SyncService):
            return Service(self, value)
        return Channel(self, value) if isinstance(value, SyncChannel) else value

    def __getattr__(self, name: str) -> Any:
        """What the synchronous handle can do and this class does not know: a method, run in a thread, awaited."""
        method = None if name.startswith("_") else getattr(type(self.sync), name, None)
        if not callable(method):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

        async def call(*args: Any, **kwargs: Any) -> Any:
            args = tuple(value.sync if isinstance(value, (Grower, Service)) else value for value in args)
            bound = getattr(self.sync, name)
            return self.wrapped(await in_thread(self.loop, self.sync.engine, bound, *args, **kwargs))

        return call

    async def open(self, address: "Address", options: "Options" = None, reuse: bool = True, **last: Any) -> C:
        """The context at ``address``, reached hop by hop from here: ``contextree.Context.open``, awaited."""
        steps = opening.Way(self.sync, address, options, reuse, last).steps()
        go: Any = steps.send
        value: Any = None
        while True:
            try:
                request = go(value)
            except StopIteration as stop:
                return self._wrap(stop.value)
            try:
                value = await self._perform(*request)
                go = steps.send
            except BaseException as error:
                value, go = error, steps.throw

    async def _perform(self, what: str, subject: Any, *growth: Any) -> Any:
        """Do what a step of ``opening`` asks for."""
        if what == "wait":
            with suppress(Closed):
                await take(self.loop, subject)
            return None
        method, args, options = growth
        return (await self._start(method, *args, via=subject, **options)).sync

    async def fork(self, direct: bool = False, name: str | None = None, via: Any = None, **options: Any) -> C:
        """A forked child: from a clean template process, or (``direct``) of this very process with its memory."""
        return await self._start("fork", direct=direct, name=name, via=via, **options)

    async def local(self, python: Any = None, env: dict[str, str | None] | None = None,
                    connect_timeout: float | dict[str, float] = 30, name: str | None = None, via: Any = None,
                    **options: Any) -> C:
        """A new interpreter on the machine of this context."""
        return await self._start("local", python=python, env=env, connect_timeout=connect_timeout, name=name, via=via,
                                 **options)

    async def ssh(self, host: str, via: Any = None, **options: "Unpack[ssh.Options]") -> C:
        """An interpreter on ``host``, by the system's ssh."""
        return await self._start("ssh", host, via=via, **options)

    async def sudo(self, user: str = "root", via: Any = None, **options: "Unpack[sudo.Options]") -> C:
        """Another account, by ``sudo``."""
        return await self._start("sudo", user, via=via, **options)

    async def su(self, user: str = "root", via: Any = None, **options: "Unpack[su.Options]") -> C:
        """Another account, by ``su``."""
        return await self._start("su", user, via=via, **options)

    async def doas(self, user: str = "root", via: Any = None, **options: "Unpack[doas.Options]") -> C:
        """Another account, by ``doas``."""
        return await self._start("doas", user, via=via, **options)

    async def runuser(self, user: str, via: Any = None, **options: "Unpack[runuser.Options]") -> C:
        """Another account, by ``runuser``: from root, without a password."""
        return await self._start("runuser", user, via=via, **options)

    async def docker(self, container: str, via: Any = None, **options: "Unpack[docker.Options]") -> C:
        """In a container that runs, by ``docker exec``."""
        return await self._start("docker", container, via=via, **options)

    async def podman(self, container: str, via: Any = None, **options: "Unpack[podman.Options]") -> C:
        """In a container that runs, by ``podman exec``."""
        return await self._start("podman", container, via=via, **options)

    async def buildah(self, container: str, via: Any = None, **options: "Unpack[buildah.Options]") -> C:
        """In a working container, by ``buildah run``."""
        return await self._start("buildah", container, via=via, **options)

    async def kubectl(self, pod: str, via: Any = None, **options: "Unpack[kubectl.Options]") -> C:
        """In a container of a Kubernetes pod, by ``kubectl exec``."""
        return await self._start("kubectl", pod, via=via, **options)

    async def lxc(self, container: str, via: Any = None, **options: "Unpack[lxc.Options]") -> C:
        """In a container of classic LXC, by ``lxc-attach``."""
        return await self._start("lxc", container, via=via, **options)

    async def lxd(self, instance: str, via: Any = None, **options: "Unpack[lxd.Options]") -> C:
        """In an instance of LXD, by ``lxc exec``."""
        return await self._start("lxd", instance, via=via, **options)

    async def incus(self, instance: str, via: Any = None, **options: "Unpack[incus.Options]") -> C:
        """In an instance of Incus, by ``incus exec``."""
        return await self._start("incus", instance, via=via, **options)

    async def nspawn(self, directory: str, via: Any = None, **options: "Unpack[nspawn.Options]") -> C:
        """In a directory tree or image, by ``systemd-nspawn``."""
        return await self._start("nspawn", directory, via=via, **options)

    async def machinectl(self, machine: str = ".host", via: Any = None, **options: "Unpack[machinectl.Options]") -> C:
        """In a machine or the host itself, by its systemd."""
        return await self._start("machinectl", machine, via=via, **options)

    async def setns(self, target: int | str, via: Any = None, **options: "Unpack[setns.Options]") -> C:
        """In the namespaces of a process or a container."""
        return await self._start("setns", target, via=via, **options)

    async def chroot(self, directory: str, via: Any = None, **options: "Unpack[chroot.Options]") -> C:
        """In another root directory, by ``chroot``."""
        return await self._start("chroot", directory, via=via, **options)

    async def jail(self, jail: int | str, via: Any = None, **options: "Unpack[jail.Options]") -> C:
        """In a FreeBSD jail, by ``jexec``."""
        return await self._start("jail", jail, via=via, **options)

    async def grow(self, plan: Any, via: Any = None, **options: Any) -> C:
        """A child by any Plan: for connection methods of your own."""
        return await self._start("grow", plan, via=via, **options)

    async def attach(self, token: str, force: bool = False, name: str | None = None, timeout: float = 10.0,
                     via: Any = None, **options: Any) -> C:
        """Take up a job of this machine and account by its token: ``contextree.Context.attach``."""
        parent = self.sync if via is None else getattr(via, "sync", via)
        return self._wrap(await in_thread(self.loop, self.sync.engine, self.sync.attach, token, force, name, timeout,
                                          parent, **options))

    async def jobs(self, directory: Any = None) -> "list[Job]":
        """The jobs that this account has on this machine, living and dead."""
        from contextree.loops.jobs import Job

        return [Job(self, job) for job in await in_thread(self.loop, self.sync.engine, self.sync.jobs, directory)]

    async def _start(self, method: str, *args: Any, via: Any = None, **options: Any) -> C:
        plans = Plans(self.sync)
        if via is not None:
            via = Plans(plans._parent(getattr(via, "sync", via)))
        parent, plan, options = getattr(plans, method)(*args, via=via, **options)
        engine = parent.engine
        if not isinstance(parent, SyncContext):
            parent = engine.context(parent.id, parent.name)
        options, threads = parent.check_plan(plan, options)
        if parent.id == engine.core.id:
            number = await self._start_here(engine, plan, options)
        else:
            options = await in_thread(self.loop, engine, engine.ahead, parent, plan, options)
            if plan.transport is not None:
                plan = await in_thread(self.loop, engine, engine.handed_on, parent, plan)
            options["token"] = token = parent._token()
            try:
                number = await calling.ask(self.loop, parent, control.grow, (plan, options), {}, {}, SERVICE)
            except ContextreeError:
                raise
            except BaseException:
                parent._forget_child(token)
                raise
        context = engine.context(number)
        return self._wrap(context.with_options(threads=threads) if threads else context)

    async def _start_here(self, engine: Any, plan: Any, options: dict[str, Any]) -> int:
        """A thread starts the process, which is short work; that it comes up is awaited here."""
        wait = options.pop("wait", True)
        branches: list[Any] = []

        def launch() -> None:
            branches.append(control.grow_here(engine, plan, dict(options, wait=False)))

        try:
            await self.loop.shielded(in_thread, self.loop, engine, launch)
            if wait:
                await take(self.loop, branches[0].result)
        except ContextreeError:
            raise
        except BaseException:
            for branch in branches:
                engine.broker.defer_nowait(branch.fail, CallCancelled(f"starting {branch.name} was cancelled"))
            raise
        return branches[0].id  # type: ignore[no-any-return]  # of a Branch
