"""A typed program: a type checker knows what comes back from a context, and which arguments may go there.

Run it as it is. ``mypy --strict`` and ``pyright`` read it too: they check each ``assert_type``, which does nothing when
the program runs, and must refuse every line of ``refused``, as an ignore that is not needed is an error.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

import asyncio
import os
import platform
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, as_completed
from typing import TYPE_CHECKING, Any

import contextree

if TYPE_CHECKING:
    from typing_extensions import assert_type
else:
    def assert_type(value: object, kind: object) -> object:
        """Nothing, when the program runs."""
        return value


class Reading:
    """What one host says."""

    def __init__(self, host: str, load: float) -> None:
        self.host = host
        self.load = load


def read(scale: float = 1.0, *, decimals: int = 2) -> Reading:
    """Runs there; contextree sends this module with the call."""
    return Reading(platform.node(), round(os.getloadavg()[0] * scale, decimals))


def squares(count: int) -> Iterator[int]:
    """A generator there is an iterator here."""
    for number in range(count):
        yield number * number


async def slow_double(number: int) -> int:
    """An async function is awaited there; what it returns comes back."""
    await asyncio.sleep(0)
    return 2 * number


async def ticks(count: int) -> AsyncIterator[str]:
    """An async generator is an iterator here, too."""
    for number in range(count):
        yield f"tick {number}"


def reachable(context: contextree.Context) -> bool:
    """A function of one's own, with contextree's types in its signature."""
    return context.state == "up" and context.ping(timeout=30) >= 0


def total(numbers: "contextree.Stream[int]") -> int:
    """Streams and futures have the type of what they hold."""
    with numbers:
        return sum(numbers)


def main() -> None:
    """Calls, futures, streams, channels, handles."""
    with contextree.Router(log_level=30) as router:
        web = router.local(name="web", threads=4)
        assert_type(web, contextree.Context)
        assert_type(web.pid, int | None)

        reading = web.call(read, 2.0, decimals=1)
        assert_type(reading, Reading)
        assert_type(web.call(os.getpid), int)
        assert_type(web.call(sorted, [3, 1, 2]), list[int])
        assert_type(web.call(slow_double, 21), int)
        assert_type(web.with_options(timeout=30).call(read), Reading)
        print("load:", reading.load >= 0, "doubled:", web.call(slow_double, 21))

        future = web.submit(read)
        assert_type(future, contextree.CallFuture[Reading])
        assert_type(future.result(timeout=30), Reading)
        plain: Future[Reading] = future  # it is one
        print("done:", plain.done())
        futures = [web.submit(slow_double, number) for number in range(3)]
        print("in any order:", sorted(each.result() for each in as_completed(futures)))

        stream = web.stream(squares, 5)
        assert_type(stream, contextree.Stream[int])
        print("total:", total(stream))
        for tick in web.stream(ticks, 2):
            assert_type(tick, str)
            print(tick)

        with web.channel() as channel:
            assert_type(channel, contextree.Channel)
            echo = web.submit(answer, channel)
            channel.send("hello")
            print(channel.receive(timeout=30))
            channel.send_eof()
            assert_type(echo.result(timeout=30), int)

        done = web.run(["echo", "in a shell's words"], text=True)
        assert_type(done.returncode, int)
        print("status:", done.returncode)
        with contextree.Executor([web]) as executor:
            assert_type(executor.submit(read), Future[Reading])
            print("powers:", sum(executor.map(pow, [2, 3], [5, 2])))

        print("reachable:", reachable(web))


async def awaited() -> None:
    """The same for programs on an event loop."""
    async with contextree.aio.Router(log_level=30) as router:
        web = await router.local(name="web")
        assert_type(await web.call(read), Reading)
        assert_type(await web.call(slow_double, 21), int)
        count = 0
        async for square in web.stream(squares, 3):
            assert_type(square, int)
            count += square
        print("awaited:", count)


def answer(channel: contextree.Channel) -> int:
    """The far end of a channel; what comes is not known before it is here."""
    count = 0
    for value in channel:
        channel.send(f"{value}, too")
        count += 1
    return count


def refused(web: contextree.Context, anything: Callable[..., Any]) -> None:
    """What a type checker finds. Never run."""
    web.call(read, "fast")  # type: ignore[call-overload]
    web.call(read, decimal=1)  # type: ignore[call-overload]
    web.submit(slow_double)  # type: ignore[call-overload]
    web.stream(squares, 5, 6)  # type: ignore[call-overload]
    web.stream(os.getpid)  # type: ignore[call-overload]
    web.with_options(time_out=5)  # type: ignore[call-arg]
    text: str = web.call(read)  # type: ignore[assignment]
    count: int = web.submit(read).result()  # type: ignore[assignment]
    print(text, count)
    contextree.Ruoter()  # type: ignore[attr-defined]
    web.call(anything, 1, two=3)  # of what has no types, nothing can be said


if __name__ == "__main__":
    main()
    asyncio.run(awaited())
