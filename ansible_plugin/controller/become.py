"""Ways to another account: those of core's become plugins that we go ourselves, once, and keep the place.

We run what the plugin itself makes, with our interpreter where the module's command was: all its options hold, whatever
they are, and what sudo's or doas' rules say of the command is said of ours. Two things are not as they were. A password
is asked for on a terminal of its own, so sudo must not read it from stdin (``-S``), which is the link; and where there
is no password sudo must not ask (``-n``). What does not look as we know it is left to core.
"""

import contextlib
import os
import re
import shlex
from typing import Any

import ansible.plugins.become
from ansible import constants as C  # noqa: N812  as everywhere in ansible
from ansible import release
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.become import BecomeBase

import contextree
from contextree.connect.dialogue import ANSWERED
from contextree.connect.plan import PYTHON_QUOTED, TOKEN, Secret

from ..target.seats import HANDED_OVER, OFFERED, OWN, Way
from . import definitions

TYPE_CHECKING = False
Result = tuple[int, bytes, bytes]
SAMPLE = "contextree"
MARK = "BECOME-SUCCESS-" + (SAMPLE * 4)[:32]  # as core's, but the same each time
OURS = os.path.join(os.path.dirname(ansible.plugins.become.__file__), "")
COMMUNITY = "/ansible_collections/community/general/plugins/become/"
SHELLS = {"sh", "dash", "bash", "ksh", "mksh", "zsh", "ash"}  # what they do with '"$0"' and 'exec' is known
_CLUSTER = re.compile(r"-[bEeHiknPSs]+")  # options of sudo that take no argument
_ELSEWHERE = re.compile(r"-[A-Za-z]*[SAb]|--(?:askpass|background)")  # it asks, or runs, in another place


class Stock(Exception):
    """This is left to core's own connection; the reason is counted."""


class Refused(Exception):
    """An account cannot be become by a way of ours."""

    def __init__(self, way: Way, kind: str, phase: str, text: str, output: str, status: int | None) -> None:
        super().__init__(text)
        self.way = way
        self.kind = kind
        self.status = status
        self.output = output
        self.late = kind == "ConnectTimeout"
        #: Whether the account was become, and what stands in the way is its Python.
        self.entered = MARK in output or (phase == "boot" and "contextree: " in output)
        #: Whether the password was given, and was not enough.
        self.answered = ANSWERED in output and not self.entered


def way_of(plugin: Any, shell: Any, outer: str | None, executable: str | None, seconds: float,
           offered: bool = False) -> Way | None:
    """How we become what ``plugin`` does; None: only the plugin can.

    outer: the shell that core has run the plugin's command; None: the login shell, of which the link has everything.
    executable: the shell that runs the command in the other account. offered: core would give it a terminal."""
    name = getattr(plugin, "_load_name", "").rpartition(".")[2]
    path = getattr(plugin, "_original_path", None) or ""
    if not executable or not (path.startswith(OURS) or COMMUNITY in path):
        return None
    words = shlex.split(outer or "/bin/sh")
    if os.path.basename(words[0]) not in SHELLS or os.path.basename(executable) not in SHELLS:
        return None
    known = _KNOWN.get(name)
    found = known(plugin) if known is not None else None
    if found is None:
        return None
    terminal, prompt, options = found
    if not terminal and offered:
        terminal = OFFERED
    built = _built(plugin, shell, options)
    if built is None:
        return None
    text, before = built
    password = _password(plugin)
    if re.match(r"[\w./+-]+ ", text):
        text = "exec " + text
    flags = options.get("become_flags", _option(plugin, "become_flags")).split()
    login = name in ("su", "sudosu") or any(flag == "--login" or re.fullmatch(r"-\w*i\w*", flag) for flag in flags)
    argv = tuple(str.__str__(word) for word in (*words, "-c", text, before + PYTHON_QUOTED))
    return Way(str.__str__(name), _option(plugin, "become_user") or "root", argv, terminal, prompt, password, login,
               seconds)


def _built(plugin: Any, shell: Any, options: dict[str, str]) -> tuple[str, str] | None:
    """The plugin's command, which runs its parameter 0 in the other account, and what stands before our interpreter in
    that; None where it has an unknown form."""
    kept = {name: getattr(plugin, name) for name in ("_id", "success", "prompt")}
    get = plugin.get_option
    plugin.get_option = lambda name, *args, **kwargs: (
        options[name] if name in options else get(name, *args, **kwargs))
    try:
        text = str.__str__(type(plugin).build_become_command(plugin, SAMPLE, shell))
        mark, key = plugin.success, plugin._id
        script = "%s %s %s %s" % (shell.ECHO, mark, shell.COMMAND_SEP, SAMPLE)
        executable = getattr(shell, "executable", None)
    finally:
        del plugin.get_option
        for name, value in kept.items():
            setattr(plugin, name, value)
    if not key or not mark:
        return None
    inside = "%s -c %s" % (executable, shlex.quote(script))
    if text.endswith(" " + shlex.quote(script)):  # the words of a command
        text = text[:-len(shlex.quote(script))]
        before = script[:-len(SAMPLE)] + "exec "
    elif text.endswith(" " + shlex.quote(inside)):  # what the account's login shell is to run
        text = text[:-len(shlex.quote(inside))]
        before = "exec %s -c %s %s " % (executable, shlex.quote(script[:-len(SAMPLE)] + 'exec "$@"'), executable)
    else:
        return None
    if "\0" in text or "$0" in text:
        return None
    return text.replace(key, TOKEN) + '"$0"', before.replace(mark, MARK)


# -- what each of them asks, and where: (terminal, prompt, options that are not the plugin's own)

Asking = tuple[str, bytes | None, dict[str, str]]


def _sudo(plugin: Any) -> Asking | None:
    given = _option(plugin, "become_flags")
    kept = []
    for flag in shlex.split(given):
        short = _CLUSTER.fullmatch(flag)
        if _ELSEWHERE.match(flag) if not short else "b" in flag:
            return None
        if short:
            flag = flag.replace("S", "")
        if flag not in ("-", "--stdin"):
            kept.append(flag)
    if any(_ELSEWHERE.match(word) for word in _option(plugin, "become_exe").split()[1:]):
        return None
    if _password(plugin) is None:
        return "", None, {"become_flags": given + " -n"}
    prompt = rb"[^\n]{0,99}\[sudo via ansible, key=" + TOKEN.encode() + rb"\] password:[^\n]{0,99}"
    return OWN, prompt, {"become_flags": shlex.join(kept)}


def _su(plugin: Any) -> Asking | None:
    flags = _option(plugin, "become_flags").split()
    if any(flag == "--pty" or re.fullmatch(r"-\w*P\w*", flag) for flag in flags):
        return None
    prompts = plugin.get_option("prompt_l10n") or plugin.SU_PROMPT_LOCALIZATIONS
    words = b"|".join(re.escape(str.__str__(each)).encode() for each in prompts)
    return HANDED_OVER, rb"(?i)[^\n]{0,99}(?:" + words + b")\\s*(?::|\xef\xbc\x9a)[^\n]{0,9}", {}


def _doas(plugin: Any) -> Asking | None:
    if _password(plugin) is None:
        return "", None, {}
    prompts = plugin.get_option("prompt_l10n") or [r"doas \(", "Password:"]
    return OWN, b"(?:" + b"|".join(str.__str__(each).encode() for each in prompts) + rb")[^\n]{0,200}", {}


def _runuser(plugin: Any) -> Asking | None:
    return "", None, {}


_KNOWN = {"sudo": _sudo, "sudosu": _sudo, "su": _su, "doas": _doas, "runuser": _runuser}


def _option(plugin: Any, name: str) -> str:
    try:
        value = plugin.get_option(name)
    except KeyError:
        return ""
    return str.__str__(value) if value else ""


def _password(plugin: Any) -> Secret | None:
    value = plugin.get_option("become_pass")
    return Secret(str.__str__(str(value))) if value else None


# -- what core says of a way that was refused

def never_asks(found: Way) -> bool:
    """Whether the command of stock cannot wait for an answer: it may be run as it is."""
    return found.terminal in ("", OFFERED)


def takes_modules(plugin: Any) -> bool:
    """Whether core feeds modules through a become plugin, if it is told to. Before 2.19 plugins are not asked."""
    return bool(plugin.pipelining if hasattr(BecomeBase, "pipelining") else plugin.name != "su")


def transcript(refused: Refused, plugin: Any, terminal: bool) -> list[bytes]:
    """What the command said, cut where it was given the password; where it asked again, that is the end."""
    said = refused.output if refused.status is None else refused.output + "\n"
    if isinstance(plugin.prompt, str):
        said = re.sub(r"\[sudo via ansible, key=\w+\] password:", lambda match: plugin.prompt, said)
    if terminal:
        said = said.replace("\n", "\r\n")
        if refused.way.method == "doas":
            said = said.replace(ANSWERED + "\r\n", ANSWERED + "\r\r\n")
    return [part.encode("utf-8", "surrogateescape") for part in said.split(ANSWERED)]


def replay(parts: list[bytes], status: int | None, out: bytes = b"", terminal: bool = False) -> list[Any]:
    """A command that says these parts on stderr, or all on stdout as on a terminal, and reads a line after each but the
    last, and then says ``out`` and ends with ``status``; None: it waits."""
    where = "" if terminal else " >&2"
    text = "; read -r answer; ".join('printf %%s "$%d"%s' % (number + 1, where) for number in range(len(parts)))
    end = "read -r answer; exit 1" if status is None else 'printf %%s "$%d"; exit %d' % (len(parts) + 1, status & 255)
    return ["/bin/sh", "-c", "%s; %s" % (text, end), "sh", *(part.replace(b"\0", b"") for part in [*parts, out])]


def too_late(refused: Refused) -> None:
    """Raise what core's ssh does where nobody asks in time: unreachable, or in older versions failed."""
    kind = AnsibleConnectionFailure if release.__version__ >= "2.19" else AnsibleError
    raise kind("Timeout (%ds) waiting for privilege escalation prompt: " % refused.way.seconds)


class Becoming(definitions.Defined):
    """What a connection does about become. For one thread."""

    become: Any
    _shell: Any
    notes: Any
    ways: dict[str, Way | None] = {}  # to another account, by the become plugin's command
    stands: Way | None = None  # has been gone
    refusal: Refused | None = None  # of an account that was tried ahead of the command
    _play_context: Any
    hosts: Any
    send: Any
    way: Any
    login_argv: Any
    settle: Any
    cwd: Any
    terminal_environment: Any

    if TYPE_CHECKING:
        def get_option(self, option: str) -> Any:
            """See core."""

    def meant(self, cmd: str, sudoable: bool) -> tuple[str, Way | None]:
        """What a command is without what was put around it, and the account for it; raises Stock."""
        outer, text = self.notes.unwrapped(cmd)
        text = text.removesuffix(" && sleep 0")
        plugin = self.become
        if not sudoable or plugin is None or text not in self.notes.inner:
            return text, None
        inner, executable = self.notes.inner[text]
        if text not in self.ways:
            self.ways = {text: self.way_by(plugin, outer, executable)}
        way = self.ways[text]
        if way is not None:
            return inner, way
        raise Stock("become by %s" % plugin.name)  # core knows what it may say, and for how long to wait for that

    def patience(self) -> float:
        """For how many seconds core would wait for the prompt of a become plugin, and for the end of what it does."""
        try:
            return 2 + float(self.get_option("timeout"))
        except (KeyError, TypeError, ValueError):
            return 2.0 + C.DEFAULT_TIMEOUT

    def way_by(self, plugin: Any, outer: str | None, executable: str | None) -> Way | None:
        """See ``way_of``."""
        offered = False
        with contextlib.suppress(KeyError):
            offered = bool(self.get_option("use_tty")) and not self.wants_pipelining()
        return way_of(plugin, self._shell, outer, executable, self.patience(), offered)

    def wants_pipelining(self) -> bool:
        """Whether the user has switched it on."""
        try:
            return bool(super().get_option("pipelining"))  # type: ignore[misc]
        except KeyError:  # of a collection that leaves it to what is set for all connections
            return bool(getattr(self._play_context, "pipelining", False))

    def feeds(self, plugin: Any) -> bool:
        """Whether core is to send modules through stdin to where a become plugin leads: where it would itself, and
        where we go."""
        return (takes_modules(plugin) and self.wants_pipelining()) or self.can_become(plugin)

    def can_become(self, plugin: Any) -> bool:
        """Whether we can become the account of a plugin. Tried once in a task, ahead of its command."""
        way = self.way_by(plugin, C.DEFAULT_EXECUTABLE, C.DEFAULT_EXECUTABLE)
        if way is None or (self.refusal is not None and self.refusal.way == way):
            return False
        if way != self.stands:
            try:
                home = self.hosts("home", self.way(), way, "")
            except (Stock, contextree.ContextreeError):
                return False
            if not isinstance(home, str):
                if home[0] == "refused":
                    self.refusal = Refused(way, *home[2:])
                return False
            self.stands = way
        return True

    def refused(self, refused: Refused, cmd: str, in_data: bytes | None, terminal: bool) -> Result:
        """What core would have said where we cannot become another account; raises Stock."""
        plugin = self.become
        if refused.answered:  # the password is not tried once more
            terminal = terminal or not takes_modules(plugin)
            return self.judged(replay(transcript(refused, plugin, terminal), refused.status, terminal=terminal))
        if refused.late and not refused.entered:
            self.nobody_let_in(refused)
        if not never_asks(refused.way):
            self.settle()  # the link is there, and what waits is for this account
            raise Stock("become by %s: %s" % (plugin.name, refused.kind))
        answer = self.send(["command", None, self.login_argv(cmd), in_data, terminal, self.cwd,
                            self.terminal_environment(terminal)])
        if answer is None:
            raise Stock("the account cannot be had by our link")
        status, out, err = answer
        if status and not plugin.check_success(out) and len(out) + len(err) < 50000:
            return self.judged(replay([err], status, out))
        return status, out, err

    def judged(self, words: list[Any]) -> Result:
        """What core makes of what a become plugin's command has said: ``words`` say it again, here. Raises Stock."""
        raise Stock("become is refused")

    def nobody_let_in(self, refused: Refused) -> None:
        """Raise what core does where it is neither asked for the password nor let in in time; or nothing, where core
        does not mind, or finds that out itself."""

    def tried_ahead(self, way: Way) -> None:
        """Raise what came of it when an account was tried ahead of the command."""
        refused, self.refusal = self.refusal, None
        if refused is not None and refused.way == way:
            raise refused

    def variables(self, way: Way, text: str) -> dict[str, str]:
        """What sudo tells a command of itself."""
        if "sudo" not in way.method:
            return {}
        script = "%s %s %s %s" % (self._shell.ECHO, self.become.success, self._shell.COMMAND_SEP, text)
        return {"SUDO_COMMAND": "%s -c %s" % (self._shell.executable, script)[:4096]}
