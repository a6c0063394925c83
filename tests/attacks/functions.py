"""What the tests have honest contexts do."""

import os


def echo(value):
    return value


def write(path, text):
    with open(path, "a") as file:
        file.write(text)


def exists(path):
    return os.path.exists(path)


def wait_for(path):
    """Return once ``path`` is there."""
    from tests.lab.poll import until

    until(lambda: os.path.exists(path), path)
    return "the true answer"


def repeat(data, count):
    return data * count


def count_up(number):
    yield from range(number)
