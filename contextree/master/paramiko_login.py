"""The login of one hop, by paramiko: what the host takes, in ssh's order. Blocking; on the thread that connects."""
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# stubs of paramiko have what is public alone; see paramiko_wire

import threading
from collections.abc import Callable, Iterator
from typing import Any

import paramiko
from paramiko.auth_handler import AuthOnlyHandler
from paramiko.common import MSG_SERVICE_ACCEPT, cMSG_SERVICE_REQUEST, cMSG_USERAUTH_REQUEST
from paramiko.message import Message

from contextree.connect.ssh_paramiko import Answers, Refused
from contextree.master.paramiko_host import Failure, Hop
from contextree.master.paramiko_keys import Keys
from contextree.master.paramiko_wire import Line


class Login(AuthOnlyHandler):  # type: ignore[misc]  # paramiko has no types
    """paramiko's, which asks for the service once; with the event made before the request is sent that it is for."""

    def send_auth_request(self, username: str, method: str, finish_message: Any = None) -> Any:
        """Send a request and wait for the answer: [] when logged in, a list of methods where more is wanted."""
        self.auth_method, self.username = method, username
        message = Message()
        message.add_byte(cMSG_USERAUTH_REQUEST)
        for text in (username, "ssh-connection", method):
            message.add_string(text)
        if finish_message is not None:
            finish_message(message)
        self.auth_event = event = threading.Event()
        with self.transport.lock:
            self.transport._send_message(message)
        return self.wait_for_response(event)


def log_in(line: Line, hop: Hop, answers: Answers, note: Callable[[str], object],
           keep: Callable[[Any], object]) -> None:
    """Log in on a line whose host has been checked. Failure where the host refuses."""
    _service(line)
    login = line.auth_handler = Login(line)
    keys = Keys(hop, note, keep)
    refusals: list[Refused] = []

    def interactive(_title: str, _instructions: str, questions: "list[tuple[str, bool]]") -> list[str]:
        try:
            wanted = [answers.wanted(text) for text, _echo in questions]
            return ["".join(answers.take(name) for name in names) for names in wanted]
        except Refused as error:
            refusals.append(error)
            raise  # it ends the connection: an empty answer would count as a wrong one there

    try:
        allowed = _attempts(login, hop, iter(keys), answers, interactive, note)
    except (paramiko.SSHException, EOFError, OSError, Refused) as error:
        if refusals:
            raise Failure("%s@%s: %s" % (hop.user, hop.name, refusals[0]), "AuthenticationError", "login") from None
        raise Failure(ended(line, hop, error), "", "login") from None
    finally:
        if keys.agent is not None:
            keys.agent._close()
    if allowed is not None:
        raise Failure("%s@%s: Permission denied (%s)." % (hop.user, hop.name, ",".join(allowed)), "", "login")


def _service(line: Line) -> None:
    """Ask for the service of logins, without waiting for the answer: what is asked next comes behind it."""
    line._handler_table[MSG_SERVICE_ACCEPT] = lambda message: None
    message = Message()
    message.add_byte(cMSG_SERVICE_REQUEST)
    message.add_string("ssh-userauth")
    line._send_message(message)


def _attempts(login: Login, hop: Hop, keys: Iterator[Any], answers: Answers, interactive: Any,
              note: Callable[[str], object]) -> "list[str] | None":
    """Try what the host takes, in ssh's order. None when logged in, else the methods that it takes."""
    order = (hop.config.get("preferredauthentications") or "publickey,keyboard-interactive,password").split(",")
    switches = {"publickey": "pubkeyauthentication", "keyboard-interactive": "kbdinteractiveauthentication",
                "password": "passwordauthentication"}
    order = [method for method in order if method in switches and hop.yes(switches[method], True)]
    asked = False
    allowed = _attempt(lambda: login.auth_none(hop.user), [], login)
    while allowed:
        for method in order:
            attempt: Any = None
            if method not in allowed:
                continue
            if method == "publickey":
                key = next(keys, None)
                attempt = key and (lambda key=key: login.auth_publickey(hop.user, key))
            elif method == "keyboard-interactive" and not asked and hop.target and (
                    answers.secrets["otp"] is not None
                    or (answers.secrets["password"] is not None and "password" not in answers.used)):
                asked = True
                attempt = lambda: login.auth_interactive(hop.user, interactive)  # noqa: E731
            elif method == "password" and hop.target and answers.secrets["password"] is not None \
                    and "password" not in answers.used:
                attempt = lambda: login.auth_password(hop.user, answers.take("password"))  # noqa: E731
            if attempt is not None:
                before, allowed = allowed, _attempt(attempt, allowed, login, note)
                if set(allowed) != set(before):
                    asked = False
                break
        else:
            return allowed
    return None


def _attempt(attempt: Callable[[], Any], allowed: list[str], login: Login,
             note: "Callable[[str], object] | None" = None) -> list[str]:
    """One try: the methods that the host takes then; none when logged in."""
    try:
        return list(attempt())
    except paramiko.BadAuthenticationType as error:
        return list(error.allowed_types)
    except paramiko.AuthenticationException:
        if not login.transport.is_active():
            raise
        return allowed
    except (paramiko.SSHException, ValueError, TypeError) as error:  # a key that cannot sign
        if not login.transport.is_active():
            raise
        if note is not None:
            note("a key cannot be used: %s" % error)
        return allowed


def ended(line: Line, hop: Hop, error: BaseException | None = None) -> str:
    """Why a connection ended, in ssh's words."""
    where = "%s port %d" % (hop.name, hop.port)
    if line.goodbye:
        return "Received disconnect from %s:%s" % (where, line.goodbye)
    if line.wire.reason:
        return "Timeout, server %s not responding." % hop.name if "answer" in line.wire.reason else line.wire.reason
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        return "Unable to negotiate with %s: %s" % (where, error)
    text = str(error or "")
    if isinstance(error, (EOFError, OSError)) or "EOF" in text or "banner" in text or not text:
        return "Connection closed by %s" % where
    return "ssh: %s: %s" % (where, text)
