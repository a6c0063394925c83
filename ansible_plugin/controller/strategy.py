"""What our strategies add to core's: everything is there before the first worker is forked, and workers stay."""

import atexit
import contextlib
import gc
import os
from typing import Any

from ansible import constants as C  # noqa: N812  as everywhere in ansible
from ansible.plugins.loader import connection_loader

from . import crew, early, worker
from .redirect import Redirect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ansible.plugins.strategy import StrategyBase as Base
else:
    Base = object  # StrategyBase comes in by core's strategy

WORKERS = "ANSIBLE_CONTEXTREE_WORKERS"  # "forked": one for each task, as in stock


class Mixin(Base):
    """Mixed into a strategy of core."""

    def __init__(self, tqm: Any) -> None:
        worker.begin(C.DEFAULT_LOCAL_TMP)  # before there are threads
        super().__init__(tqm)

    def run(self, iterator: Any, play_context: Any) -> Any:
        """Run a play."""
        atexit.unregister(gc.freeze)  # there is a run for each play
        atexit.register(gc.freeze)  # looking for cycles at the end of a process with such a heap takes some 70 ms
        connection_loader.get_with_context = Redirect(connection_loader)
        try:
            early.prepare(self, iterator._play)
            forked = os.environ.get(WORKERS) == "forked"
            with contextlib.nullcontext() if forked else crew.Crew(self, iterator, play_context):
                return super().run(iterator, play_context)
        finally:
            del connection_loader.get_with_context
