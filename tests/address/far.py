"""Functions that tests have run elsewhere."""

import contextree


def open_there(address):
    """Open an address from where this runs: the new context's name and address."""
    context = contextree.current_router().open(address)
    return context.name, context.address


def requests():
    """How often this context has asked for modules."""
    from contextree.core import main as life

    return life.child.importer.requests


def own_name():
    """The name of the context that this runs in."""
    return contextree.current_router().name


def imported():
    """The modules of contextree that have been imported here, but for those of the bundle."""
    import sys

    ours = "contextree.connect", "contextree.parent", "contextree.core.first_stage"
    return [name for name in sys.modules if name.startswith(ours)]
