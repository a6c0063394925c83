"""Ids and names. Ids are handed out in blocks, and a block belongs to the link that it was given to."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable

MAX_ID = (1 << 32) - 1
EXTRA = "_.@:-"
FULL_NAME = 512  # characters of a name with those of all ancestors before it


def valid_name(name: object, limit: int = 128) -> bool:
    """1 to ``limit`` letters, digits and ``_.@:-``: safe in logs, terminals and file names."""
    return isinstance(name, str) and 0 < len(name) <= limit and all(c.isalnum() or c in EXTRA for c in name)


class Blocks:
    """Disjoint ranges of ids ``[first, end)``: what a context may hand out, or what was bound to a link."""

    __slots__ = ("ranges",)

    def __init__(self, ranges: "Iterable[tuple[int, int]]" = ()) -> None:
        self.ranges = [tuple(item) for item in ranges]

    def __contains__(self, number: int) -> bool:
        return any(first <= number < end for first, end in self.ranges)

    def add(self, first: int, end: int) -> None:
        """Extend by a block."""
        self.ranges.append((first, end))

    def room(self) -> int:
        """How many ids are left."""
        return sum(end - first for first, end in self.ranges)

    def take(self, count: int) -> "tuple[int, int] | None":
        """Cut ``count`` ids out of one range; None when no range has as many."""
        for index, (first, end) in enumerate(self.ranges):
            if end - first >= count:
                self.ranges[index] = first + count, end
                return first, first + count
        return None
