"""A module that one test shares."""


def answer():
    return 42
