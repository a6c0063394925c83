#!/usr/bin/python
"""Done by the action of the same name."""
