"""A package with a data file and a subpackage: what a target gets from the master."""

from tests.matrix.parcel import inner

LABEL = "parcel:" + inner.WORD
