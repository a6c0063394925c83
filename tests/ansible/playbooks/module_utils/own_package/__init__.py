"""A package of module_utils, with an import that is relative to it."""

from . import deeper


def answer():
    return "package and " + deeper.WHOSE
