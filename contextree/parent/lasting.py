"""Contexts that live on when their master goes, as methods of a context."""

from contextree.core.wire.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Any, overload

    from typing_extensions import Literal

    from contextree.connect.plan import Secret
    from contextree.parent.engine import Engine
    from contextree.parent.jobs import Job


class Lasting:
    """``detach`` and ``job``; what makes and finds jobs is imported when it is first used."""

    if TYPE_CHECKING:
        engine: Engine
        id: int
        name: str

    if TYPE_CHECKING:
        @overload
        def detach(self, keep: "Literal[False]" = False) -> None:
            ...

        @overload
        def detach(self, keep: "Literal[True]", directory: "str | os.PathLike[str] | None" = None,
                   time_to_live: "float | None" = 604800.0, output_limit: int = 1 << 20) -> "Secret":
            ...

    def detach(self, keep: bool = False, directory: "str | os.PathLike[str] | None" = None,
               time_to_live: "float | None" = 604800.0, output_limit: int = 1 << 20) -> "Secret | None":
        """Let it survive the loss of its parent: whatever becomes of that, it ends when the call that runs there then
        ends.

        Until then nothing changes; ``shutdown`` and ``kill`` still end it. Returns when it knows. A terminal that its
        command runs on (``sudo``, passwords for ``ssh``) is hung up all the same.

        ``keep``: make a *job* of it, which lives on and can be taken up again by ``attach``, also from another machine.
        Returns its token, which is secret. What its calls give and what it writes from now on is kept in a new
        directory there, of mode 0700, in ``directory`` or in ~/.local/state/contextree/jobs: the answers of all calls
        that run now or when a master goes, the last ``output_limit`` bytes of output. It ends by ``shutdown``, or when
        nobody has had it for ``time_to_live`` seconds (None: never). UsageError where the directory cannot be had."""
        engine = self.engine
        engine.check_fork()
        from contextree.parent import control

        info = engine.infos.get(self.id)
        if info is None:
            raise UsageError("only a context below this one can be detached, and %s is none" % self.name)
        if keep:
            from contextree.parent import jobs

            context = self  # type: Any
            return jobs.detach(context, directory, time_to_live, output_limit)
        if info.parent == engine.core.id:
            engine.share_package(engine.context(self.id))
            control.detach_here(engine, self.id)
        else:
            engine.context(info.parent).service(control.detach, self.id)
        return None

    def job(self) -> "Job":
        """What this context has kept as a job. UsageError where it is none.

        >>> with router.local(name="worker") as worker:
        ...     token = worker.detach(keep=True)
        ...     worker.job().output()
        ''
        """
        from contextree.parent import jobs

        context = self  # type: Any
        return jobs.job_of(context)
