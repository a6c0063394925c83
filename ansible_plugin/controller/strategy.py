"""What our strategies add to core's: everything is there before the first worker is forked, and workers stay."""

import atexit
import gc
import importlib
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


class Mixin(Base):
    """Mixed into a strategy of core."""

    def __init__(self, tqm: Any) -> None:
        worker.begin(C.DEFAULT_LOCAL_TMP)  # before there are threads
        super().__init__(tqm)

    def run(self, iterator: Any, play_context: Any) -> Any:
        """Run a play."""
        atexit.unregister(gc.freeze)  # there is a run for each play
        atexit.register(gc.freeze)  # looking for cycles at the end of a process with such a heap takes some 70 ms
        importlib.import_module("contextree.parent.join")  # before the first worker: each would import it again
        connection_loader.get_with_context = Redirect(connection_loader)
        try:
            early.prepare(self, iterator._play)
            if os.environ.get("NOCREW"):
                return super().run(iterator, play_context)
            with crew.Crew(self, iterator, play_context):
                return super().run(iterator, play_context)
        finally:
            del connection_loader.get_with_context
