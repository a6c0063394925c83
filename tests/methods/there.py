"""Functions that the tests call in other contexts. No import here but of small modules: each goes there with it."""

import os
import pwd


def start_anew(environment):
    """Have this environment and no other, and stand in the root directory."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir("/")


def who():
    """The account that we are, by its number."""
    return pwd.getpwuid(os.getuid()).pw_name
