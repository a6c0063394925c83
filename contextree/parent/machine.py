"""The programs and the files of the machine that a context is on, as methods of the context."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextree.parent.context import Context
    from contextree.parent.transfer import Transferred


class Machine:
    """``run`` and ``popen``, ``put`` and ``get``: what people use ssh and sftp for. What does it is imported when it is
    first used."""

    # -- programs

    def run(self, args, *, input=None, stdin=None, stdout=None, stderr=None, capture_output=True, shell=False, cwd=None,
            env=None, add_env=None, timeout=None, check=False, text=None, encoding=None, errors=None,
            universal_newlines=None, max_output=None, grace=2.0, until="eof", pty=False,
            **others):
        """Run a program there, to its end: ``subprocess.run``, elsewhere. Returns a ``subprocess.CompletedProcess``.

        What differs: both outputs are collected, as there is no terminal to show them on; ``stdin`` is empty; in text
        mode the encoding is UTF-8; the program leads a session and a process group of its own. ``stdout`` and
        ``stderr`` may also be a function or a file object here, which gets what comes as it comes, on this thread;
        ``input`` and ``stdin`` an iterable or a file object, read on a thread of its own. With ``capture_output=False``
        what it writes goes to the log, as what the context prints. ``env`` replaces the environment of the context,
        ``add_env`` changes it (None removes a variable). ``max_output``: most bytes to collect of each output, then
        OutputTooLarge. ``until="exit"``: do not wait for those that it left behind to close its output. ``pty``: on a
        terminal of its own, True or (rows, columns). ``others``: executable, user, group, extra_groups, umask.

        After ``timeout`` seconds its process group gets TERM, ``grace`` seconds later KILL, and then TimeoutExpired is
        raised, with what had come. The group is ended too when this wait is given up (Ctrl-C, an exception of a
        function given), when the context ends and when the link to it is lost. FileNotFoundError, PermissionError and
        the like where the program cannot be started; CalledProcessError with ``check``; ContextDied.

        >>> web.run(["tr", "a-z", "A-Z"], input="shout", text=True).stdout
        'SHOUT'
        """
        given = dict(locals())
        from contextree.parent import command

        return command.run(given.pop("self"), **dict(given.pop("others"), **given))

    def popen(self, args, **options):
        """Start a program there and do not wait: a ``Process``, with the look of ``subprocess.Popen``.

        All of stdin, stdout and stderr are pipes by default. Options: ``stdin``, ``stdout``, ``stderr`` (PIPE, DEVNULL,
        STDOUT, None for the log), ``timeout`` (the program is ended then), and those of ``run`` that say how it is
        started: shell, cwd, env, add_env, text, encoding, errors, grace, pty ... Returns once it was started; raises
        what ``run`` raises where it cannot be.

        >>> with web.popen(["sh", "-c", "echo one; echo two"], text=True) as process:
        ...     for line in process.stdout:
        ...         print(line, end="")
        one
        two
        """
        from contextree.parent.running import Process

        return Process(self, args, **options)

    # -- files

    def put(self, source, destination, *, mode: "int | None" = None, owner: "int | str | None" = None,
            group: "int | str | None" = None, preserve: "bool | str" = False, resume: bool = False, sparse: bool = True,
            fsync: bool = True, links: str = "keep", special: str = "error", max_size: "int | None" = None,
            progress=None) -> "Transferred":
        """Put ``source`` (a path as str or PathLike, the bytes themselves, or a binary file object) at the path
        ``destination`` there. Either all of it is in place when this returns, checked by its hash and on the disk, or
        nothing is and an exception says why: OSError with the path there, TransferError, ContextDied, CallTimeout.

        A folder goes with all that is in it. The options are told in docs/howto/files.md."""
        from contextree.parent import files

        return files.put(self, source, destination, files.options_of(
            mode, owner, group, preserve, resume, sparse, fsync, links, special, max_size), progress)

    def get(self, source, destination, *, mode: "int | None" = None, owner: "int | str | None" = None,
            group: "int | str | None" = None, preserve: "bool | str" = False, resume: bool = False, sparse: bool = True,
            fsync: bool = True, links: str = "keep", special: str = "error", max_size: "int | None" = None,
            progress=None) -> "Transferred":
        """Get the file or folder ``source`` from there to ``destination``: a path here, or a binary file object to write
        to. As ``put`` in all else.

        The other end has no say in where anything is put, and a name, a link or a length that does not fit ends the
        transfer with nothing in place."""
        from contextree.parent import files

        return files.get(self, source, destination, files.options_of(
            mode, owner, group, preserve, resume, sparse, fsync, links, special, max_size), progress)

    def read_bytes(self, source, max_size: int = 1 << 30) -> bytes:
        """The content of the file ``source`` there. TransferError if it has more than ``max_size`` bytes."""
        from contextree.parent import files

        return files.read_bytes(self, source, max_size)

    def copy_to(self, source, other: "Context", destination, *, mode: "int | None" = None,
                owner: "int | str | None" = None, group: "int | str | None" = None, preserve: "bool | str" = False,
                resume: bool = False, sparse: bool = True, fsync: bool = True, links: str = "keep",
                special: str = "error", max_size: "int | None" = None, progress=None) -> "Transferred":
        """Copy the file or folder ``source`` of this context to the path ``destination`` of the context ``other``, as
        ``get`` and ``put`` would, without storing it on the way: the lowest context above both hands it on.

        No grant is needed, and none is given."""
        from contextree.parent import files

        return files.copy(self, source, other, destination, files.options_of(
            mode, owner, group, preserve, resume, sparse, fsync, links, special, max_size), progress)
