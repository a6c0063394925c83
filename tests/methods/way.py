"""One way to reach an interpreter, set up for real, as the suite of all methods needs it."""


class Way:
    """Subclass it, and give a session fixture ``way_NAME`` that yields one; add NAME to ``conftest.WAYS``.

    name       of the parameter; the fixture is ``way_`` and it
    method     what ``facts["method"]`` is
    tail       the context's default name, such as ``ssh.key``
    separate   its processes have pids of their own (a pid namespace), so ``context.pid`` is no pid here
    """

    name = method = tail = ""
    separate = False

    def open(self, router, **options):
        """A context by this method; ``options`` are the method's (python=, via=, name=, connect_timeout= ...)."""
        raise NotImplementedError

    # Each of these tries with something wrong, and raises what the method raises. None: the method has no such thing.
    wrong_credentials = None    # (router): a password or key that is refused
    missing_binary = None       # (router): the program ``no-such-program`` in the place of the method's own
    missing_target = None       # (router): the target ``no-such-target``
