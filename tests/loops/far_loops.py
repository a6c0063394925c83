"""Loops that contexts run themselves."""


def use_asyncio():
    import asyncio

    async def main():
        await asyncio.sleep(0)
        return 43

    return asyncio.run(main())


def use_trio():
    import trio

    async def main():
        await trio.sleep(0)
        return 44

    return trio.run(main)
