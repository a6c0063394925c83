"""Lies beside the playbook."""

WHOSE = "the playbook's"
_calls = []


def count():
    """How often it was called in this process."""
    _calls.append(1)
    return len(_calls)
