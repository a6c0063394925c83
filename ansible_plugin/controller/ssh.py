"""``ssh``: one link for each host and run.

All that core's connection does stays core's: it puts the command line together, retries, and says what is wrong. In
place of running ssh for each command it comes here, where the command goes over the link that was opened by the first.
"""

import hashlib
import os
import re
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.text.converters import to_bytes
from ansible.plugins.connection import ssh as core
from ansible.utils.display import Display
from ansible.utils.path import unfrackpath

import contextree
from contextree.connect import discover
from contextree.connect import ssh as method
from contextree.connect.dialogue import ANSWERED
from contextree.connect.plan import PYTHON_QUOTED, Plan, checked_secret, safe_name
from contextree.connect.ssh_dialogue import SshDialogue

from . import become, fast
from .link import Link
from .remember import keep

display = Display()

#: Before all else, as ssh takes the first value that it is given.
OURS = ["-T", "-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "RemoteCommand=none"]
_TERMINAL = re.compile(r"-tt?$|(-o)?requesttty[ =]*(yes|force)$", re.IGNORECASE)
OTHER_PROMPTS = "sshpass_prompt", "pkcs11_provider"  # options by which a password goes to a prompt of another kind
#: What ssh asks on a terminal: what was answered, and what was then asked again.
_ASKED = re.compile(r".*: %s|\(\S+@\S+\) .*: ?|\S+@\S+'s password: ?" % re.escape(ANSWERED))
SSHPASS_WRONG = 5  # its status when the password was

#: Stands in for an ssh that has failed: what core then says, and whether it tries again, stays core's.
_FAILED = '[ -z "$2" ] || cat > /dev/null; printf %s "$1" >&2; exit 255'
PASSED_ON = ("SSH_AUTH_SOCK", "SSH_AGENT_PID", "HOME", "PATH", "KRB5CCNAME")

#: What core notes of a command line as it puts it together.
_NOTED = ("port", "user", "control_path", "control_path_dir", "_persistent")
_lines: dict[Any, tuple[list[bytes], dict[str, Any], str | None]] = {}
_links: dict[Any, Link] = {}


def link(argv: list[str], host: str, user: str | None, password: Any, shared: bool = True,
         again: str = "fail") -> Link:
    """A link by the command ``argv``, which ends before the host's name. again: see ``Dialogue``."""
    host = str.__str__(host)  # without the tags of ansible-core 2.19
    env: dict[str, str | None] = {name: os.environ.get(name) for name in PASSED_ON}
    env["SSH_ASKPASS_REQUIRE"] = "never"
    words = [argv[0], *OURS, *argv[1:]]
    phases = dict.fromkeys(("connect", "login", "boot"), 0.0)  # ssh has its own limit; what a login then does has none
    # by its path, as core calls it: some login shells tell their programs in $_
    python = ("/bin/sh", *discover.WORDS[1:])
    plan = Plan([*words, "--", host, PYTHON_QUOTED], safe_name("ssh." + host), "ssh", python=python,
                remote=True, classify=method.classify, env=env, phases=phases)
    if password:
        secret = checked_secret(str(password), "password")
        dialogue = SshDialogue(user, host, None, True, {"password": secret, "passphrase": None, "otp": None})
        dialogue.again = again
        plan = plan.copy(tty=True, probe=[*words, "-G", "--", host], dialogue=dialogue)
    text = repr((words, host, sorted(env.items()), password and str(password)))
    return Link("ssh." + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(), plan,
                greets="once" if shared else "always")


class Ssh(fast.Fast):
    """What our ``ssh`` mixes into core's."""

    @property
    def put_mode(self) -> int | None:  # type: ignore[override]  # it is said there, and asked here
        """See Fast: ``dd`` does not know what mode a file had elsewhere."""
        return 0o666 if self.get_option("ssh_transfer_method") == "piped" else None

    def get(self, source: str, target: str, mode: int, data: bytes | None) -> fast.Result:
        """See Fast."""
        return super().get(source, target, mode if self.put_mode is None else self.put_mode, data)

    _asked: str | None = None  # what core is to run
    _error: Any = None  # why that cannot be, as an earlier command has shown; or what is to be raised in the end

    def link(self) -> Link:
        """See Fast."""
        self.host = self.get_option("host") or self._play_context.remote_addr
        settings = self._settings()
        found = _links.get(settings) if settings else None
        if found is None:
            found = self._made_link()
            if settings:
                keep(_links, settings, found)
        return found

    def _settings(self) -> Any:
        """All that the command line for this host is made of, to look it up by; None where it is made anew each time:
        a password or key goes another way with each, and what is made is to be shown."""
        options = self._options
        if (display.verbosity > 3 or self._play_context.password
                or any(options.get(name) for name in ("password", "private_key", "pkcs11_provider"))):
            return None
        values = [self.host, self._play_context.remote_addr, type(self._shell), *map(os.environ.get, PASSED_ON)]
        for each in options.items():
            values += *each, type(each[1])  # 1, 1.0 and True would be the same
        try:
            hash(settings := tuple(values))
        except TypeError:
            return None
        return settings

    def _build_command(self, binary: str, subsystem: str, *other_args: Any) -> list[bytes]:
        """See core, which does this for each command."""
        settings = self._settings() if subsystem == "ssh" else None
        if settings is None:
            return core.Connection._build_command(self, binary, subsystem, *other_args)
        found = _lines.get((binary, settings))
        if found is None or not (found[2] is None or os.access(found[2], os.W_OK)):
            line = core.Connection._build_command(self, binary, subsystem)
            folder = self.control_path_dir  # for core's own sockets; core makes it with the line
            found = (line, {name: self.__dict__[name] for name in _NOTED if name in self.__dict__},
                     None if folder is None else unfrackpath(folder))
            keep(_lines, (binary, settings), found)
        self.__dict__.update(found[1])
        return [*found[0], *map(to_bytes, other_args)]

    def _made_link(self) -> Link:
        password = self.get_option("password") or self._play_context.password
        if password and any(self._options.get(name) for name in OTHER_PROMPTS):
            raise fast.Stock("what asks for the password is not the host")
        pipe, self.sshpass_pipe = getattr(self, "sshpass_pipe", None), None  # of the command that core is about to run
        words = [word.decode("utf-8", "surrogateescape") for word in self._build_command(
            self.get_option("ssh_executable"), "ssh")]
        self._close_pipe()
        self.sshpass_pipe = pipe
        words = words[words.index(self.get_option("ssh_executable")):]  # without sshpass
        if getattr(self._shell, "_IS_WINDOWS", False):
            raise fast.Stock("Windows")
        if any("\0" in word for word in (*words, self.host)):
            raise fast.Stock(fast.NUL)
        if self._terminal_is_requested(words):
            raise fast.Stock("ssh is told to ask for a terminal")
        how = self._options.get("password_mechanism")
        return link(words, self.host, self.get_option("remote_user"), None if how == "disable" else password,
                    getattr(self, "_persistent", False), "empty" if how == "ssh_askpass" else "fail")

    def _terminal_is_requested(self, words: list[str]) -> bool:
        if hasattr(core.Connection, "_is_tty_requested"):
            return bool(self._is_tty_requested())
        return any(_TERMINAL.match(word) for word in words)  # before 2.19, which parses them as ssh does

    @property
    def has_tty(self) -> bool:
        """See core, which says by which name it knows this connection where there is none and a plugin wants one."""
        found = bool(super().has_tty)
        plugin = self.become
        if not found and self.stands_for is not None and getattr(plugin, "require_tty", False):
            raise AnsibleError("The '%s' connection does not provide a TTY which is required for the selected become "
                               "plugin: %s." % (self.stands_for, plugin.name))
        return found

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> Any:
        """See core."""
        self._error = None
        try:
            self.host = self.get_option("host") or self._play_context.remote_addr
            answer = self.at_once(cmd, sudoable)
        except (fast.Stock, contextree.ContextreeError) as error:
            answer, self._error = None, error  # where core asks for it, it need not take as long to find out again
        if answer is not None:
            return answer
        self._asked = cmd
        try:
            answer = core.Connection.exec_command(self, cmd, in_data, sudoable)
        finally:
            self._asked = None
        if self._error is not None:
            raise self._error
        return answer

    def _bare_run(self, cmd: Any, in_data: bytes | None, sudoable: bool = True, checkrc: bool = True) -> Any:
        """What core runs ssh by, for each command, and with retries around it."""
        asked, self._asked = self._asked, None
        if asked is None:
            return core.Connection._bare_run(self, cmd, in_data, sudoable, checkrc)
        terminal = not in_data and sudoable and self.get_option("use_tty")
        try:
            earlier, self._error = self._error, None
            if earlier is not None:
                raise earlier
            status, out, err = self.act(asked, in_data, sudoable, terminal)
            failure = None
        except (fast.Stock, contextree.ContextreeError, ImportError, OSError) as error:
            failure = error
        except AnsibleError as error:
            self._error = error  # nothing for which core is to try again: raised by ``exec_command``
            return 0, b"", b""
        finally:
            self._asked = asked
        if failure is not None:  # out here, what it raises has no cause
            self._asked = None  # what core runs now is core's
            try:
                return self._without(failure, cmd, in_data, sudoable, checkrc)
            finally:
                self._asked = asked
        self._close_pipe()
        return status, out, err + (self._parting() if terminal else b"")

    def _parting(self) -> bytes:
        """What ssh says at the end of each command that had a terminal, unless it is told to be quieter."""
        link = self.way()
        argv = list(link.plan.argv[:-1])
        lines = dict(line.split(" ", 1) for line in self.hosts(
            "client", link, [*argv[:-2], "-G", *argv[-2:]]).splitlines() if " " in line)
        if lines.get("loglevel", "INFO").upper() in ("QUIET", "FATAL", "ERROR"):
            return b""
        text = "Shared connection" if getattr(self, "_persistent", False) else "Connection"
        return ("%s to %s closed.\r\n" % (text, lines.get("hostname", self.host))).encode("utf-8", "surrogateescape")

    def judged(self, words: list[Any]) -> Any:
        """See Becoming."""
        return core.Connection._bare_run(self, [*words, self.get_option("ssh_executable")], None, True, False)

    def nobody_let_in(self, refused: become.Refused) -> None:
        """See Becoming."""
        become.too_late(refused)

    def _without(self, error: Exception, cmd: Any, in_data: bytes | None, sudoable: bool, checkrc: bool) -> Any:
        """What comes of a command where our link did not do it."""
        if isinstance(error, contextree.AuthenticationError) and self._by_sshpass(cmd):
            self._close_pipe()
            return SSHPASS_WRONG, b"", told_by(error)
        if isinstance(error, fast.BEGUN) or getattr(error, "phase", "") in ("connect", "login"):
            text = told_by(error)
            in_data = in_data if self.is_pipelining_wanted() else None
            if isinstance(error, contextree.ContextDied):
                shared = all(self._persistence_controls(cmd))  # then ssh is not told why it has ended
                terminal = not in_data and sudoable and self.get_option("use_tty")
                text = (b"" if shared else text) + (self._parting() if terminal else b"")
            words = ["/bin/sh", "-c", _FAILED, "sh", text, "data" if in_data else ""]
            return core.Connection._bare_run(self, words, in_data, sudoable, checkrc)
        try:
            self.fall_back(error)
        except AnsibleError as failure:
            self._error = failure
            return 0, b"", b""
        return core.Connection._bare_run(self, cmd, in_data, sudoable, checkrc)

    def _by_sshpass(self, cmd: Any) -> bool:
        """Whether it is sshpass that core has type passwords."""
        return cmd[0] == b"sshpass" or (hasattr(self, "_sshpass_cmd") and
                                         self.get_option("password_mechanism") == "sshpass")

    def _close_pipe(self) -> None:
        """Close what ansible-core before 2.19 opens for sshpass as it builds a command."""
        for end in getattr(self, "sshpass_pipe", None) or ():
            os.close(end)
        self.sshpass_pipe = None


def told_by(error: Exception) -> bytes:
    """What ssh said before it ended, as it said it: its lines end so."""
    output = getattr(error, "output", "") or ("" if isinstance(error, contextree.ContextDied) else str(error))
    # what was asked for a password on our terminal is no part of what ssh says: core has it asked elsewhere
    lines = [line for line in output.splitlines() if not _ASKED.fullmatch(line)]
    text = "".join(line + "\r\n" for line in lines)
    text = text.replace("sent by the remote host is\r\n", "sent by the remote host is\n")  # in the middle of a message
    return text.encode("utf-8", "surrogateescape")
