"""Stands before core's module of the same name once this role was included."""

WHOSE = "the late role's"
