"""Programs in a context: the methods ``run`` and ``popen`` of a handle. What does it: command, running, program."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    import subprocess
    from typing import IO, Any, Callable, Iterable, Mapping, Sequence

    from typing_extensions import TypedDict, Unpack

    from contextree.parent.running import Process

    Word = str | bytes | os.PathLike[Any]
    Input = str | bytes | bytearray | memoryview | Iterable[str] | Iterable[bytes] | IO[Any]
    Output = int | IO[Any] | Callable[[Any], object] | None

    class StartOptions(TypedDict, total=False):
        """What says how a program is started, for ``run`` and ``popen`` alike."""

        shell: bool
        cwd: Word | None
        env: Mapping[Any, Any] | None
        add_env: Mapping[str, str | None] | None
        grace: float
        until: str
        pty: bool | tuple[int, int]
        executable: Word | None
        user: int | str | None
        group: int | str | None
        extra_groups: Sequence[int | str] | None
        umask: int | None

    class PopenOptions(StartOptions, total=False):
        """What ``popen`` takes."""

        stdin: int | None
        stdout: int | None
        stderr: int | None
        timeout: float | None
        text: bool | None
        encoding: str | None
        errors: str | None


class Runner:
    """What runs programs in a context."""

    def run(self, args: "Word | Sequence[Word]", *, input: "Input | None" = None, stdin: "int | IO[Any] | None" = None,
            stdout: "Output" = None, stderr: "Output" = None, capture_output: bool = True,
            timeout: "float | None" = None, check: bool = False, text: "bool | None" = None,
            encoding: "str | None" = None, errors: "str | None" = None, universal_newlines: "bool | None" = None,
            max_output: "int | None" = None,
            **options: "Unpack[StartOptions]") -> "subprocess.CompletedProcess[Any]":
        """Run a program there, to its end: ``subprocess.run``, elsewhere. Returns a ``subprocess.CompletedProcess``.

        What differs: both outputs are collected, as there is no terminal to show them on; ``stdin`` is empty; in text
        mode the encoding is UTF-8; the program leads a session and a process group of its own. ``stdout`` and
        ``stderr`` may also be a function or a file object here, which gets what comes as it comes, on this thread;
        ``input`` and ``stdin`` an iterable or a file object, read on a thread of its own. With ``capture_output=False``
        what it writes goes to the log, as what the context prints. ``env`` replaces the environment of the context,
        ``add_env`` changes it (None removes a variable). ``max_output``: most bytes to collect of each output, then
        OutputTooLarge. ``until="exit"``: do not wait for those that it left behind to close its output. ``pty``: on a
        terminal of its own, True or (rows, columns). ``options``: these, and shell, cwd, executable, user, group,
        extra_groups, umask, grace.

        After ``timeout`` seconds its process group gets TERM, ``grace`` seconds later KILL, and then TimeoutExpired is
        raised, with what had come. The group is ended too when this wait is given up (Ctrl-C, an exception of a
        function given), when the context ends and when the link to it is lost. FileNotFoundError, PermissionError and
        the like where the program cannot be started; CalledProcessError with ``check``; ContextDied.

        >>> web.run(["tr", "a-z", "A-Z"], input="shout", text=True).stdout
        'SHOUT'
        """
        from contextree.parent import command

        context = self  # type: Any  # a Context, which this class is a part of
        return command.run(context, args, input=input, stdin=stdin, stdout=stdout, stderr=stderr,
                           capture_output=capture_output, timeout=timeout, check=check, text=text, encoding=encoding,
                           errors=errors, universal_newlines=universal_newlines, max_output=max_output, **options)

    def popen(self, args: "Word | Sequence[Word]", **options: "Unpack[PopenOptions]") -> "Process":
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

        context = self  # type: Any  # likewise
        return Process(context, args, **options)
