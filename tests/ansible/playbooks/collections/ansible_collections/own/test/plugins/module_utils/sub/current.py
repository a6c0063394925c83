"""Of a collection."""

from ..neighbour import WHERE

WHOSE = "the collection's, " + WHERE
