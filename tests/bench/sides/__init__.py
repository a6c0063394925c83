"""Who does what is measured: one module for the raw limit, for contextree and for each peer; peers are used nowhere
else.

Each has a class ``Side``. Its methods are context managers that yield ``run(count)``, which returns a number or a dict
of numbers.
"""
