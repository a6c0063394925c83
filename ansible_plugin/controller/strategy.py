"""What our strategies add to core's: everything is there before the first worker is forked, and workers stay."""

import atexit
import contextlib
import gc
import os
from typing import Any

from ansible import constants as C  # noqa: N812  as everywhere in ansible
from ansible.plugins.loader import connection_loader
from ansible.utils.display import Display

from . import crew, early, line, remember, worker
from .redirect import Redirect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ansible.plugins.strategy import StrategyBase as Base
else:
    Base = object  # StrategyBase comes in by core's strategy

display = Display()

PRELOADED = line,  # what each worker would import
WORKERS = "ANSIBLE_CONTEXTREE_WORKERS"  # "forked": one for each task, as in stock


class Mixin(Base):
    """Mixed into a strategy of core."""

    def __init__(self, tqm: Any) -> None:
        worker.begin(C.DEFAULT_LOCAL_TMP)  # before there are threads
        self.undo = remember.frames()  # core's next step is to look for a caller
        super().__init__(tqm)

    def run(self, iterator: Any, play_context: Any) -> Any:
        """Run a play."""
        iterator._play.strategy = self.core_name()
        atexit.unregister(gc.freeze)  # there is a run for each play
        atexit.register(gc.freeze)  # looking for cycles at the end of a process with such a heap takes some 70 ms
        connection_loader.get_with_context = Redirect(connection_loader)
        try:
            with contextlib.ExitStack() as stack:
                stack.callback(self.undo)
                early.prepare(self, iterator._play)
                stack.enter_context(early.paths_kept())
                stack.enter_context(remember.remembered())
                if os.environ.get(WORKERS) != "forked":
                    try:
                        stack.enter_context(crew.Crew(self, iterator, play_context))
                    except Exception as error:  # another core
                        display.vv("contextree: workers are forked for each task: %r" % error)
                return super().run(iterator, play_context)
        finally:
            del connection_loader.get_with_context

    def core_name(self) -> str:
        """That of core's strategy, which core's debugger and its callback ``default`` go by."""
        return next(cls.__module__.rpartition(".")[2] for cls in type(self).__mro__
                    if cls.__module__.startswith("ansible.plugins.strategy."))
