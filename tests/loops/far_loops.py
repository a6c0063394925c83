"""Loops that contexts run themselves. What they import is not to be looked up beforehand: that is a second for trio."""

from importlib import import_module


def use_asyncio():
    asyncio = import_module("asyncio")

    async def main():
        await asyncio.sleep(0)
        return 43

    return asyncio.run(main())


def use_trio():
    trio = import_module("trio")

    async def main():
        await trio.sleep(0)
        return 44

    return trio.run(main)


def which():
    """The library that sniffio sees."""
    sniffio = import_module("sniffio")

    try:
        return sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        return None


def nap(seconds):
    import time

    time.sleep(seconds)  # sleeps: time in which what is inherited could run
    return seconds


def use_whatever_loop_is_there(seconds):
    """As libraries do that were written before ``asyncio.run``."""
    import asyncio
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loop = asyncio.get_event_loop()
        except RuntimeError:
            return
        loop.run_until_complete(asyncio.sleep(seconds))  # sleeps: time for what is inherited
