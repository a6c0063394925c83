"""How a host is reached, as workers tell the multiplexer."""

from typing import NamedTuple

from contextree.connect.plan import Plan


class Link(NamedTuple):
    """How a host is reached."""

    key: str  # the same for the same way
    plan: Plan
    environ: dict[str, str] | None = None  # of an interpreter on the controller; None: that of the multiplexer
    #: Whether what the program says as it connects is said in stock by the first command ("once"), or by each
    #: ("always"), before what that says itself.
    greets: str = ""
