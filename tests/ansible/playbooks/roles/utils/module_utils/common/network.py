"""Stands before core's module of the same name, for modules of this role."""

WHOSE = "the role's"
