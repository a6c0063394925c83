"""What our strategies add to core's: everything is there before the first worker is forked, and workers stay."""

import os
from typing import Any

from ansible import constants as C  # noqa: N812  as everywhere in ansible
from ansible.plugins.loader import connection_loader

from . import crew, worker

REDIRECT = {"ssh": "contextree.fast.ssh", "ansible.builtin.ssh": "contextree.fast.ssh",
            "local": "contextree.fast.local", "ansible.builtin.local": "contextree.fast.local"}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ansible.plugins.strategy import StrategyBase as Base
else:
    Base = object  # StrategyBase comes in by core's strategy


class Mixin(Base):
    """Mixed into a strategy of core."""

    def run(self, iterator: Any, play_context: Any) -> Any:
        """Run a play."""
        worker.where(C.DEFAULT_LOCAL_TMP, os.getpid())
        loaded = connection_loader.get_with_context
        for name in set(REDIRECT.values()):
            connection_loader.get_with_context(name, class_only=True)

        def redirected(name: str, *args: Any, **kwargs: Any) -> Any:
            return loaded(REDIRECT.get(name, name), *args, **kwargs)

        connection_loader.get_with_context = redirected
        try:
            if os.environ.get("NOCREW"):
                return super().run(iterator, play_context)
            with crew.Crew(self, iterator, play_context):
                return super().run(iterator, play_context)
        finally:
            del connection_loader.get_with_context
