"""Which thread ``threading`` takes for the main one: before Python 3.13 the one that imports it first.

asyncio, signal and many others ask for it."""

import os
import threading


def tell(ident: int) -> None:
    """Make ``ident`` the main thread, in a process where nobody had imported ``threading`` before. Any thread."""
    main = threading.main_thread()
    if main.ident != ident:
        threading._active[ident] = threading._active.pop(main.ident, main)
        main._ident = ident
        main._native_id = os.getpid()
