"""A connection method is data: what to start, whether it needs a tty, and how to talk until Python runs there.

Pure: nothing here opens, waits or reads a clock. ``contextree.parent.spawn`` runs every Plan in the same way.
"""


class Secret(str):
    """A string that shows itself nowhere: masked in repr, str.format and logs; ``reveal()`` gives the text."""

    __slots__ = ()

    def __repr__(self):
        return "Secret('********')"

    def __str__(self):
        return "********"

    def __format__(self, spec):
        return "********"

    def reveal(self):
        """The text itself, as a plain str."""
        return str.__str__(self)


class Plan:
    """How to start one interpreter.

    argv      list of str: the command, ending in the interpreter's command line, which ``parent.spawn`` fills in
              where an element is the constant ``PYTHON`` (expanded into several words), or ``PYTHON_QUOTED`` (one
              word, quoted for a POSIX shell, csh and fish alike).
    name      str: the default name of the context, its last part, for example ``ssh.web1``.
    method    str: ``local``, ``ssh`` ...
    tty       bool: give the command a controlling terminal, on which the dialogue talks.
    dialogue  None, or a ``contextree.connect.dialogue.Dialogue``.
    env       dict or None: variables added to the environment; a value of None removes one.
    python    list of str: the interpreter's words.
    remote    bool: the other end is another host (keepalive matters, nothing is shared).
    trusted   bool: it runs as the same user on the same host.
    phases    dict of phase -> limit in seconds ("connect", "login", "boot").
    """

    __slots__ = ("argv", "name", "method", "tty", "dialogue", "env", "python", "remote", "trusted", "phases")

    def __init__(self, argv, name, method, tty=False, dialogue=None, env=None, python=("python3",), remote=False,
                 trusted=False, phases=None):
        self.argv = argv
        self.name = name
        self.method = method
        self.tty = tty
        self.dialogue = dialogue
        self.env = env
        self.python = python
        self.remote = remote
        self.trusted = trusted
        self.phases = phases or {}

    def __reduce__(self):
        return Plan, tuple(getattr(self, field) for field in self.__slots__)


PYTHON = "\0python"
PYTHON_QUOTED = "\0python quoted"
