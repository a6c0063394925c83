"""The budgets, measured: ``python -m tests.bench``.

The raw limit (sockets, pipes, fork), contextree and its peers do the same things in one run, in turns, so that a
machine that is busy with something else is busy for all of them. What counts is ratios. See ``rows`` for what is
measured, ``sides`` for who does it, ``contest`` for how, ``report`` for the table.
"""
