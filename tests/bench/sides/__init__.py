"""Who does what is measured: a module each for the raw limit, contextree and every peer; peers are used nowhere else.

Each has a class ``Side``. Its methods are context managers that yield ``run(count)``, which returns a number or a dict
of numbers.
"""
