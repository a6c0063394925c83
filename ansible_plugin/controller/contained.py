"""Connections of collections that run a program for each command: ``docker exec``, ``kubectl exec``, ``chroot`` and
their like. Ours have one such program running, whose input and output are the link.

What they run is asked of the collection's own class, see ``asking``. Whatever the link cannot do, and everything while
there is no link (no Python in the container, no shell, a container that does not run, an engine that does not answer),
is left to that class, which says what it says.
"""

import contextlib
import hashlib
import os
import re
import shlex
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.connection import ConnectionBase

import contextree
from contextree.connect import discover
from contextree.connect.plan import PYTHON, Plan, safe_name

from . import fast
from .asking import MARK, Asked, ask, asking, run_instead
from .link import Link

KILLED = 137  # what such a program ends with where the container is gone


class Way:
    """How a class runs commands: the words before each, and what it makes of the command itself."""

    def __init__(self, asked: Asked) -> None:
        words, split = asked.words, shlex.split(MARK)
        self.env = asked.env
        self.shell: list[str] | None = None  # words of a shell before the text of the command; None: its own words
        self.before = ""  # what stands before the text of a command
        if words[-1].endswith(MARK) and words[-2:-1] == ["-c"]:
            self.words, self.shell, self.before = words[:-3], words[-3:-1], words[-1].removesuffix(MARK)
        elif words[-len(split):] == split:
            self.words = words[:-len(split)]
        else:
            raise fast.Stock("what is run is not known: %s" % words[:1])

    def argv(self, cmd: str, quoted: bool) -> list[str]:
        """The words of a command, there. Raises Stock."""
        if self.shell is not None:
            return [*self.shell, self.before + cmd]
        if not quoted:  # the program itself says what is wrong with words that are none of a shell's
            raise fast.Stock("a command without a shell")
        return shlex.split(cmd)

    def within(self) -> list[str]:
        """Words that start what follows them as a command would be started, with the environment of one."""
        return [*self.words, *self.shell, self.before + 'exec "$0" "$@"'] if self.shell is not None else self.words


class Contained(fast.Fast):
    """Mixed into a class that ``collection`` has given, before it."""

    connect_is_dear = True  # its ``_connect`` runs programs, and is not needed to know what exec_command runs
    prompts = False  # whether its ``exec_command`` answers those of become plugins

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._way: Way | None = None
        self._there: bool | None = None  # whether there is a link
        self._tried = False
        super().__init__(*args, **kwargs)

    # -- what a plugin may say otherwise

    def entrance(self, way: Way) -> list[str]:
        """The words that start an interpreter there."""
        return [*way.within(), PYTHON]

    def refuse(self) -> None:
        """Raise Stock where what is asked for cannot be a link."""
        if getattr(self._shell, "_IS_WINDOWS", False):  # type: ignore[attr-defined]
            raise fast.Stock("Windows")

    # -- the way in

    def how(self) -> Way:
        """What the collection's class runs, by the options as they are now. Raises Stock."""
        if self._way is None:
            self.refuse()
            try:
                asked = ask(super().exec_command)  # type: ignore[misc]
            except AnsibleError as error:  # it is raised again where it is run
                raise fast.Stock(str(error)) from None
            if asked is None:
                raise fast.Stock("%s runs no program" % self.transport)  # type: ignore[attr-defined]
            self._way = Way(asked)
        return self._way

    def _connect(self) -> Any:
        """See core."""
        if asking() and self.connect_is_dear:
            return self
        return super()._connect()  # type: ignore[misc]

    def link(self) -> Link:
        """See Fast."""
        way = self.how()
        kind = self.transport.rpartition(".")[2]  # type: ignore[attr-defined]
        env = None
        if way.env is not None:
            env = {name: way.env.get(name) for name in {*way.env, *os.environ}
                   if way.env.get(name) != os.environ.get(name)}
        if any("\0" in word for word in way.words):
            raise fast.Stock(fast.NUL)
        words = self.entrance(way)
        address = re.sub(r"[^\w.@:-]", "_", str(self._play_context.remote_addr or ""))  # type: ignore[attr-defined]
        python = discover.beginning_with(self.interpreter) if self.interpreter else discover.WORDS
        plan = Plan(words, safe_name("%s.%s" % (kind, address)), kind, python=python, env=env)
        text = repr((words, self.interpreter, sorted(env.items()) if env else None))
        return Link(kind + "." + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(), plan)

    def login_argv(self, cmd: str) -> list[str | None]:
        """See Fast."""
        return list(self.how().argv(cmd, self.notes.unwrapped(cmd)[0] is not None))

    def set_options(self, *args: Any, **kwargs: Any) -> None:
        """See core."""
        super().set_options(*args, **kwargs)
        self._way = None
        self._there = None
        self._tried = False

    def there(self, again: bool = False) -> bool:
        """Whether there is a link. ``again``: try even where the last one who tried had none, once for this task."""
        if self._there is None or (again and not self._there and not self._tried):
            self._tried = self._tried or again
            try:
                why = self.hosts("reach", self.way(), again)
            except fast.Stock as stock:
                why = str(stock)
            if why is not None:
                fast.display.vvv("contextree: %s" % why)
                with contextlib.suppress(fast.Stock):
                    self.hosts("fell_back", why.partition("\n")[0][:200])
            self._there = why is None
        return self._there

    # -- core's methods

    @property
    def has_pipelining(self) -> bool:
        """Whether modules go through stdin: where there is a link, else where the collection's class can do it."""
        return self.there(True) or super().has_pipelining  # type: ignore[misc]

    def get_option(self, option: str, *args: Any, **kwargs: Any) -> Any:
        """See core. This one is asked for by it before 2.19."""
        if option == "pipelining" and not self.there(True):
            return super(fast.Fast, self).get_option(option, *args, **kwargs)  # type: ignore[misc]
        return super().get_option(option, *args, **kwargs)

    def is_pipelining_enabled(self, wrap_async: bool = False) -> bool:
        """See core."""
        if self.there(True):
            return super().is_pipelining_enabled(wrap_async)
        return ConnectionBase.is_pipelining_enabled(self, wrap_async)  # type: ignore[arg-type]

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> Any:
        """See core."""
        failure: Exception | None = None
        try:
            if not isinstance(cmd, str):  # words that the class itself wants run
                self.settle()
            elif self.there():
                answer = self.at_once(cmd, sudoable)
                return answer if answer is not None else self.act(cmd, in_data, sudoable, False)
        except contextree.ContextDied:
            return KILLED, b"", b""
        except fast.BEGUN as error:  # it may have been done: not once more
            return KILLED, b"", str(error).encode()
        except (fast.Stock, contextree.ContextreeError) as why:
            failure = why
        if failure is not None:  # out here, what it raises has no cause
            if isinstance(failure, contextree.ConnectError):
                self._there = False
            self.fall_back(failure)
        self.feeding = bool(in_data)
        try:
            return super().exec_command(cmd, in_data=in_data, sudoable=sudoable)  # type: ignore[misc]
        finally:
            self.feeding = True

    def terminal_environment(self, terminal: bool) -> Any:
        """See Fast: what a shell has added before our interpreter began."""
        return {"SHLVL": None, "OLDPWD": None}

    def meant(self, cmd: str, sudoable: bool) -> Any:
        """See Becoming."""
        text, way = super().meant(cmd, sudoable)
        if way is not None and not self.prompts and self.become.expect_prompt():
            raise fast.Stock("%s answers no prompts" % self.transport)  # type: ignore[attr-defined]
        return text, way

    def can_become(self, plugin: Any) -> bool:
        """See Becoming."""
        return (self.prompts or not plugin.get_option("become_pass")) and super().can_become(plugin)

    def wants_pipelining(self) -> bool:
        """See Becoming."""
        return bool(super(fast.Fast, self).has_pipelining) and super().wants_pipelining()  # type: ignore[misc]

    def judged(self, words: list[Any]) -> Any:
        """See Becoming."""
        return run_instead(super().exec_command, words)  # type: ignore[misc]

    def fetch_file(self, in_path: str, out_path: str) -> Any:
        """See core. It is the collection's: who owns the file here, and its mode, differ between them."""
        try:
            self.settle()
        except (fast.Stock, contextree.ContextreeError) as why:
            self.fall_back(why)
        return super(fast.Fast, self).fetch_file(in_path, out_path)  # type: ignore[misc]


class Docker(Contained):
    """``docker exec``."""

    put_mode = 0o666
    prompts = True


class Podman(Contained):
    """``podman exec``, which is told that there is an input."""

    def entrance(self, way: Way) -> list[str]:
        """See Contained."""
        at = len(way.words) - way.words[::-1].index("exec")
        return [*way.words[:at], "-i", *way.words[at:], PYTHON]


class Buildah(Contained):
    """``buildah run``, which has last words of its own where a command fails."""

    def act(self, cmd: str, in_data: bytes | None, sudoable: bool, terminal: bool) -> fast.Result:
        """See Fast."""
        if not in_data:
            raise fast.Stock("a command by buildah")
        return super().act(cmd, in_data, sudoable, terminal)

    def _buildah(self, cmd: Any, *args: Any, **kwargs: Any) -> Any:
        if cmd == "umount" and not self._connected:  # type: ignore[attr-defined]
            return 0, b"", b""  # it has not been mounted
        return super()._buildah(cmd, *args, **kwargs)  # type: ignore[misc]


class Kubectl(Contained):
    """``kubectl exec`` and ``oc exec``."""

    put_mode = 0o666
    connect_is_dear = False

    def refuse(self) -> None:
        """See Contained."""
        super().refuse()
        if isinstance(self.get_option(self.transport.rpartition(".")[2] + "_kubeconfig"), dict):  # type: ignore[attr-defined]
            raise fast.Stock("a configuration that is made for each command")

    def act(self, cmd: str, in_data: bytes | None, sudoable: bool, terminal: bool) -> fast.Result:
        """See Fast."""
        status, out, err = super().act(cmd, in_data, sudoable, terminal)
        return status, out, err + (b"command terminated with exit code %d\n" % status if status else b"")


class Entered(Contained):
    """``chroot``, ``jexec``."""

    put_mode = 0o666
    connect_is_dear = False


class Nsenter(Entered):
    """``nsenter``, whose user is root from the first command on."""

    prompts = True

    def how(self) -> Way:
        """See Contained."""
        user = self._play_context.remote_user
        try:
            return super().how()
        finally:
            self._play_context.remote_user = user

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> Any:
        """See core."""
        try:
            return super().exec_command(cmd, in_data, sudoable)
        finally:
            self._play_context.remote_user = "root"


class Instance(Contained):
    """``lxc exec`` and ``incus exec``."""

    connect_is_dear = False

    def entrance(self, way: Way) -> list[str]:
        """See Contained."""
        if way.words[-1] == "-c":  # su with two -c, of which each su thinks otherwise
            raise fast.Stock("another user by su")
        return super().entrance(way)
