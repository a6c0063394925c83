"""Output for people: tables in colour on a terminal, plain columns where there is none."""

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

PLAIN_WIDTH = 160


def console() -> Console:
    """The console on stdout. ``NO_COLOR`` and ``TERM=dumb`` count."""
    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def guides(made: Console) -> bool:
    """Whether lines can be drawn there."""
    return made.is_terminal and made.encoding.lower().startswith("utf")


def table(made: Console, heads: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print rows of text under ``heads``; the columns named in ``right`` are aligned to the right."""
    drawn = Table(box=SIMPLE_HEAD if guides(made) else None, pad_edge=False, header_style="bold", padding=(0, 1))
    for head in heads:
        drawn.add_column(head, justify="right" if head in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(escape(cell) for cell in row))
    made.print(drawn)


def branches(parents: Sequence[int | None], draw: bool) -> list[str]:
    """What to put before the name of each row of a tree, given the row that each hangs from (an earlier one, or None).

    Rows come in the order of the tree: every subtree in one piece."""
    out = []
    for row in range(len(parents)):
        text, at = "", row
        while (parent := parents[at]) is not None:
            later = parent in parents[at + 1:]
            if not draw:
                text = "  " + text
            elif at == row:
                text = "├─ " if later else "└─ "
            else:
                text = ("│  " if later else "   ") + text
            at = parent
        out.append(text)
    return out
