"""The methods that grow the tree, the same for a router and for every context in it."""

from importlib import import_module

from contextree.connect import address as addresses
from contextree.connect import local as local_method
from contextree.connect.options import GROW
from contextree.core.wire.errors import UsageError
from contextree.parent.template import fork_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Any, Sequence, Union

    from typing_extensions import Unpack

    from contextree.connect import buildah as buildah_method
    from contextree.connect import chroot as chroot_method
    from contextree.connect import doas as doas_method
    from contextree.connect import docker as docker_method
    from contextree.connect import incus as incus_method
    from contextree.connect import jail as jail_method
    from contextree.connect import kubectl as kubectl_method
    from contextree.connect import lxc as lxc_method
    from contextree.connect import lxd as lxd_method
    from contextree.connect import machinectl as machinectl_method
    from contextree.connect import nspawn as nspawn_method
    from contextree.connect import podman as podman_method
    from contextree.connect import runuser as runuser_method
    from contextree.connect import setns as setns_method
    from contextree.connect import ssh as ssh_method
    from contextree.connect import su as su_method
    from contextree.connect import sudo as sudo_method
    from contextree.connect.options import GrowOptions
    from contextree.connect.plan import Plan
    from contextree.parent.context import Context
    from contextree.parent.engine import Engine
    from contextree.parent.jobs import Job
    from contextree.parent.opening import Address, Options


class Grower:
    """``fork``, ``local``, ``ssh``, ``sudo``, ``docker`` ...: children of this context. Each blocks until the child is
    up and returns its Context; each raises ConnectError (phase, command, status, last lines in its fields). From any
    thread but the loop's.

    Common to all of them: ``name`` (its part of the full name), ``via`` (the context whose child it becomes; this one
    if not given), ``on_start`` (functions to run there before the first call), ``threads`` (how many calls may run
    there at once; 0: one at a time, on the main thread), ``trusted`` (whether pickles may come from it; by default from
    the same user on the same machine alone)."""

    engine = None  # type: Engine  # type: ignore[assignment]  # that of the tree; each of them sets it

    def grow(self, plan: "Plan", via: "Grower | None" = None, **options: "Unpack[GrowOptions]") -> "Context":
        """Start a child by any ``contextree.connect.plan.Plan``: for connection methods of your own."""
        rest = dict(options)  # type: dict[str, Any]
        if "trusted" in rest:
            plan = plan.copy(trusted=bool(rest.pop("trusted")))
        return self._parent(via)._grow(plan, rest)

    def _parent(self, via: "Grower | None") -> "Grower":
        """Where a child is to grow: ``via``, a Context or a Router of this tree, or here."""
        if via is None:
            return self
        if not isinstance(via, Grower) or via.engine is not self.engine:
            raise UsageError("via= wants a context of this tree, not %r" % (via,))
        return via

    def _grow(self, plan: "Plan", options: "dict[str, Any]") -> "Context":
        raise NotImplementedError

    def open(self, address: "Address", options: "Options" = None, reuse: bool = True, **last: "Any") -> "Context":
        """The context at ``address``, reached hop by hop from here: ``"ssh://web1/sudo:root/docker:app"``, or a list
        with a hop in each element. See docs/methods/addresses.md for what can be written.

        options  what is not for an address, passwords above all: a dict of a method (``"sudo"``) or a hop
                 (``"sudo:root"``) to a dict of keyword arguments, or to a function of the hop that returns one and is
                 called when that hop is really opened; or one such function for all hops.
        reuse    hops before the last are shared by all ``open``s of this tree, and stay until it ends or somebody
                 shuts them down. False: they are opened for this context alone, and end with it.
        last     keyword arguments for the last hop, which is always a new context: ``name=``, ``threads=`` ...

        Raises UsageError for an address that means nothing. An error of a hop says which one it was, and has ``hop``,
        ``hops`` and ``address`` (of that hop) as fields; what this call had opened, and nobody else uses, is ended
        then. From any thread: two that want the same hop at once share one connect."""
        from contextree.parent import opening

        return opening.run(self, address, options, reuse, last)

    def fork(self, direct: bool = False, name: "str | None" = None, via: "Grower | None" = None,
             **options: "Unpack[GrowOptions]") -> "Context":
        """A forked child: from a clean template process, or (``direct``) of this very process with its memory.

        ``direct`` is for the process that calls; other contexts fork from their template."""
        return self._parent(via)._grow(fork_plan(name), dict(options, direct=direct))

    def local(self, python: "str | Sequence[str] | None" = None, env: "dict[str, str | None] | None" = None,
              connect_timeout: "float | dict[str, float]" = 30, name: "str | None" = None,
              via: "Grower | None" = None, **options: "Unpack[GrowOptions]") -> "Context":
        """A new interpreter on the machine of this context: ``python`` is its command, this interpreter by default."""
        plan = local_method.plan(python, env, connect_timeout, name)
        plan.address = addresses.written("local", plan.python[0] if len(plan.python) == 1 else "", {})
        return self.grow(plan, via, **options)

    def attach(self, token: str, force: bool = False, name: "str | None" = None, timeout: float = 10.0,
               via: "Grower | None" = None, **options: "Unpack[GrowOptions]") -> "Context":
        """Take up a job again that runs on the machine and under the account of this context, by the token that
        ``Context.detach(keep=True)`` gave: it becomes a child of this context, with all that a context has, and
        ``Context.job`` shows what it has kept. When this tree goes, it lives on as before; ``shutdown()`` ends it.

        ``force``: take it from a master that still has it; without that AuthenticationError. ``timeout``: seconds for
        each step. Raises AuthenticationError where the token is not its, ConnectError (ConnectTimeout) where it is not
        there or does not answer, VersionError where another version of contextree started it, UsageError for what is no
        token."""
        from contextree.parent import jobs

        return jobs.attach(self._parent(via)._context(), token, force, name, timeout, dict(options))

    def jobs(self, directory: "str | os.PathLike[str] | None" = None) -> "list[Job]":
        """The jobs that this account has on the machine of this context, living and dead, oldest first; ``directory``:
        those that were made in that one. The dead ones that nobody has looked after for longer than their
        ``time_to_live`` are removed."""
        from contextree.parent import jobs

        return jobs.find(self._context(), directory)

    def _context(self) -> "Context":
        raise NotImplementedError

    def _by(self, method: str, via: "Grower | None", options: "Any", *target: object) -> "Context":
        """A child by ``contextree.connect.<method>.plan``, which takes what is not for ``grow``."""
        plan = import_module("contextree.connect." + method).plan
        code = plan.__code__
        taken = code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]
        grow = {name: options.pop(name) for name in GROW if name in options}
        for name in options:
            if name not in taken:
                raise TypeError("%s() got an unexpected keyword argument %r" % (method, name))
        made = plan(*target, **options)
        made.address = addresses.written(method, target[0], options)
        return self.grow(made, via, **grow)

    def ssh(self, host: str, via: "Grower | None" = None, **options: "Unpack[ssh_method.Options]") -> "Context":
        """An interpreter on ``host``, by the system's ssh. Options: see ``contextree.connect.ssh.plan``.

        ``transport="paramiko"``: by that library, in this process, without the ssh program."""
        return self._by("ssh", via, options, host)

    def sudo(self, user: str = "root", via: "Grower | None" = None,
             **options: "Unpack[sudo_method.Options]") -> "Context":
        """Another account, by ``sudo``. Options: see ``contextree.connect.sudo.plan``."""
        return self._by("sudo", via, options, user)

    def su(self, user: str = "root", via: "Grower | None" = None, **options: "Unpack[su_method.Options]") -> "Context":
        """Another account, by ``su``. Options: see ``contextree.connect.su.plan``."""
        return self._by("su", via, options, user)

    def doas(self, user: str = "root", via: "Grower | None" = None,
             **options: "Unpack[doas_method.Options]") -> "Context":
        """Another account, by ``doas``. Options: see ``contextree.connect.doas.plan``."""
        return self._by("doas", via, options, user)

    def runuser(self, user: str, via: "Grower | None" = None, **options: "Unpack[runuser_method.Options]") -> "Context":
        """Another account, from root, by ``runuser``. Options: see ``contextree.connect.runuser.plan``."""
        return self._by("runuser", via, options, user)

    def docker(self, container: str, via: "Grower | None" = None,
               **options: "Unpack[docker_method.Options]") -> "Context":
        """In a container that runs, by ``docker exec``. Options: see ``contextree.connect.docker.plan``."""
        return self._by("docker", via, options, container)

    def podman(self, container: str, via: "Grower | None" = None,
               **options: "Unpack[podman_method.Options]") -> "Context":
        """In a container that runs, by ``podman exec``. Options: see ``contextree.connect.podman.plan``."""
        return self._by("podman", via, options, container)

    def buildah(self, container: str, via: "Grower | None" = None,
                **options: "Unpack[buildah_method.Options]") -> "Context":
        """In a working container, by ``buildah run``. Options: see ``contextree.connect.buildah.plan``."""
        return self._by("buildah", via, options, container)

    def kubectl(self, pod: str, via: "Grower | None" = None, **options: "Unpack[kubectl_method.Options]") -> "Context":
        """In a container of a Kubernetes pod, by ``kubectl exec``. Options: see ``contextree.connect.kubectl.plan``."""
        return self._by("kubectl", via, options, pod)

    def lxc(self, container: str, via: "Grower | None" = None, **options: "Unpack[lxc_method.Options]") -> "Context":
        """In a container of classic LXC, by ``lxc-attach``. Options: see ``contextree.connect.lxc.plan``."""
        return self._by("lxc", via, options, container)

    def lxd(self, instance: str, via: "Grower | None" = None, **options: "Unpack[lxd_method.Options]") -> "Context":
        """In an instance of LXD, by ``lxc exec``. Options: see ``contextree.connect.lxd.plan``."""
        return self._by("lxd", via, options, instance)

    def incus(self, instance: str, via: "Grower | None" = None, **options: "Unpack[incus_method.Options]") -> "Context":
        """In an instance of Incus, by ``incus exec``. Options: see ``contextree.connect.incus.plan``."""
        return self._by("incus", via, options, instance)

    def nspawn(self, directory: str, via: "Grower | None" = None,
               **options: "Unpack[nspawn_method.Options]") -> "Context":
        """In a directory tree or image, by ``systemd-nspawn``. Options: see ``contextree.connect.nspawn.plan``."""
        return self._by("nspawn", via, options, directory)

    def machinectl(self, machine: str = ".host", via: "Grower | None" = None,
                   **options: "Unpack[machinectl_method.Options]") -> "Context":
        """In a machine or the host itself, by its systemd. Options: see ``contextree.connect.machinectl.plan``."""
        return self._by("machinectl", via, options, machine)

    def setns(self, target: "Union[int, str]", via: "Grower | None" = None,
              **options: "Unpack[setns_method.Options]") -> "Context":
        """In the namespaces of a process or a container. Options: see ``contextree.connect.setns.plan``."""
        return self._by("setns", via, options, target)

    def chroot(self, directory: str, via: "Grower | None" = None,
               **options: "Unpack[chroot_method.Options]") -> "Context":
        """In another root directory, by ``chroot``. Options: see ``contextree.connect.chroot.plan``."""
        return self._by("chroot", via, options, directory)

    def jail(self, jail: "Union[int, str]", via: "Grower | None" = None,
             **options: "Unpack[jail_method.Options]") -> "Context":
        """In a FreeBSD jail, by ``jexec``. Options: see ``contextree.connect.jail.plan``."""
        return self._by("jail", via, options, jail)
