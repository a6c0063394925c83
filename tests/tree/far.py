"""Functions that look at the tree from inside it."""

import logging
import select

import contextree


def hello():
    """A record."""
    logging.getLogger("hello").warning("hello")


def name_of(number):
    """The name of a context, as this one knows it."""
    return contextree.current_router().context_by_id(number).name


def known(number):
    """Whether the router here knows the name without asking anybody."""
    return contextree.current_router().engine.name_of(number)


def back(context):
    """What was passed, and what it looks like here."""
    return context, repr(context), contextree.current_router().context_by_id(context.id) is context


def keep(context, store=[]):  # noqa: B006  (kept between calls, on purpose)
    """True when it is the same object as in the call before."""
    store.append(context)
    return store[0] is context


def call_it(context, function, *args):
    """Have another context do it."""
    return context.call(function, *args)


def grow_here(name):
    """A child of this context, made by code that runs in it."""
    return contextree.current_router().local(name=name)


def tree_here():
    """The tree as this context sees it."""
    return contextree.current_router().tree()


def busy_in_a_function_with_a_telling_name():
    """Never returns."""
    select.select([], [], [])


def give_back(value):
    """The value itself."""
    return value


def through_pickle(value):
    """The value, pickled and unpickled here by the user's own hand."""
    import pickle

    found = pickle.loads(pickle.dumps(value))
    assert found is value
    return found


class About(Exception):
    """An exception about a value."""


def fail_about(value):
    """Raise it."""
    raise About(value)
