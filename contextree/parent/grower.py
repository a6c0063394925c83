"""The methods that grow the tree, the same for a router and for every context in it."""

from contextree.connect import local as local_method
from contextree.connect import ssh as ssh_method
from contextree.core.wire.errors import UsageError
from contextree.parent.template import fork_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Sequence

    from typing_extensions import Unpack

    from contextree.connect.plan import Plan
    from contextree.parent.context import Context
    from contextree.parent.engine import Engine
    from contextree.parent.options import GrowOptions, SshOptions


class Grower:
    """``fork``, ``local``, ``ssh``: children of this context. Each blocks until the child is up and returns its
    Context; each raises ConnectError (phase, command, status, last lines in its fields). From any thread but the
    loop's.

    Common to all of them: ``name`` (its part of the full name), ``via`` (the context whose child it becomes; this one
    if not given), ``on_start`` (functions to run there before the first call), ``threads`` (how many calls may run
    there at once; 0: one at a time, on the main thread)."""

    engine = None  # type: Engine  # type: ignore[assignment]  # that of the tree; each of them sets it

    def grow(self, plan: "Plan", via: "Grower | None" = None, **options: "Unpack[GrowOptions]") -> "Context":
        """Start a child by any ``contextree.connect.plan.Plan``: for connection methods of your own."""
        return self._parent(via)._grow(plan, dict(options))

    def _parent(self, via: "Grower | None") -> "Grower":
        """Where a child is to grow: ``via``, a Context or a Router of this tree, or here."""
        if via is None:
            return self
        if not isinstance(via, Grower) or via.engine is not self.engine:
            raise UsageError("via= wants a context of this tree, not %r" % (via,))
        return via

    def _grow(self, plan: "Plan", options: "dict[str, Any]") -> "Context":
        raise NotImplementedError

    def fork(self, direct: bool = False, name: "str | None" = None, via: "Grower | None" = None,
             **options: "Unpack[GrowOptions]") -> "Context":
        """A forked child: from a clean template process, or (``direct``) of this very process with its memory.

        ``direct`` is for the process that calls; other contexts fork from their template."""
        return self._parent(via)._grow(fork_plan(name), dict(options, direct=direct))

    def local(self, python: "str | Sequence[str] | None" = None, env: "dict[str, str | None] | None" = None,
              name: "str | None" = None, via: "Grower | None" = None,
              **options: "Unpack[GrowOptions]") -> "Context":
        """A new interpreter on the machine of this context: ``python`` is its command, this interpreter by default."""
        return self.grow(local_method.plan(python=python, env=env, name=name), via, **options)

    def ssh(self, host: str, via: "Grower | None" = None, on_start: "Iterable[Callable[[], object]]" = (),
            threads: int = 0, wait: bool = True, **options: "Unpack[SshOptions]") -> "Context":
        """An interpreter on ``host``, by the system's ssh. Options: see ``contextree.connect.ssh.plan``."""
        return self.grow(ssh_method.plan(host, **options), via, on_start=on_start, threads=threads, wait=wait)
