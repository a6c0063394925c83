"""Programs in a context, awaited: natively, without a thread."""

import subprocess
from typing import Any

from contextree.core.wire.errors import CallTimeout
from contextree.loops.waiting import EventLoop, take
from contextree.parent import command
from contextree.parent.context import Context as SyncContext


async def run(loop: EventLoop, context: SyncContext, args: Any,
              options: dict[str, Any]) -> "subprocess.CompletedProcess[Any]":
    """Run a program to its end. Cancelled, or left by an error of a function that was given: it is ended there, with
    its group. Functions that take output are called in this task, and must not block."""
    job = command.Run(context, args, **options)
    count, over = 0, False
    try:
        while not over:
            context.engine.check_fork()
            try:
                item = await take(loop, job.mailbox, job.left())
            except CallTimeout:
                over = job.late()
                continue
            over = job.take(item)
            count += 1
            if not count % loop.turns:
                await loop.pause()
    finally:
        job.close()
    return job.result()
