"""The ``contextree`` command."""
