"""The inner part of the parcel."""

WORD = "wörd"
