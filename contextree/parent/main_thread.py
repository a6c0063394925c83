"""Which thread ``threading`` takes for the main one: before Python 3.13 the one that imports it first.

asyncio, signal and many others ask for it."""

import os
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def tell(ident: int) -> None:
    """Make ``ident`` the main thread, in a process where nobody had imported ``threading`` before. Any thread."""
    module = threading  # type: Any  # what is set here is private
    main = module.main_thread()
    if main.ident != ident:
        module._active[ident] = module._active.pop(main.ident, main)
        main._ident = ident
        main._native_id = os.getpid()
