"""Why ssh ended before the interpreter at its other end said hello: its words, and what they mean.

Matched on the last lines of its stderr and terminal, at the start of a line only: what else may stand there was
written by the other end. ssh's own failures have status 255, all others are of the command there.
"""

from contextree.connect.discover import not_found
from contextree.connect.plan import how_it_ended, last_line
from contextree.connect.reasons import explained, missing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Tuple

_EXPIRED = r".*(?:[Pp]assword has expired|[Pp]assword change required|required to change your password)"
_EXPIRED_TEXT = "the password has expired and must be changed first: {0}"
# (pattern, error, phase, message); for ssh's own errors, status 255. {0} is the line, {1} ... are groups.
_ERRORS = (
    (r"@ +WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for (\S+) has changed", "HostKeyError", "connect",
     "the host key has changed since it was stored in known_hosts: either the host was installed anew, or somebody "
     "is in between. Find out, then remove the old key by ssh-keygen -R"),
    (r"No (\S+) host key is known for (\S+) and", "HostKeyError", "connect",
     "the {1} host key of {2} is not known, or known_hosts cannot be read; connect once by hand, add it to "
     "known_hosts, or say host_keys='accept-new'"),
    (r".*(?:has been revoked|is marked as revoked)", "HostKeyError", "connect", "the host key is revoked: {0}"),
    (r"Host key verification failed", "HostKeyError", "connect",
     "the host key of the host, or of a jump host, is not known; add it to known_hosts"),
    (r"(\S+@\S+): Permission denied \(([^)]*)\)", "AuthenticationError", "login",
     "{1} was refused (the host takes {2}); check user=, the key, or the password"),
    (r"(?:.*Too many authentication failures)", "AuthenticationError", "login",
     "the host ended the login after too many tries; give identity_file=, so that only this key is offered"),
    (_EXPIRED, "AuthenticationError", "login", _EXPIRED_TEXT),
    (r"mux_client_\S+: .*|ControlSocket \S+ .*|Shared connection to \S+ closed", "ConnectError", "connect",
     "the connection that was to be shared is of no use: {0}"),
    (r"Permission denied|Authentication failed", "AuthenticationError", "login", "the host refused the login: {0}"),
    (r"ssh: Could not resolve hostname ([^ :]+|\S+): (.*)", "ConnectError", "connect",
     "there is no host named {1} ({2})"),
    (r"ssh: connect to host (\S+) port (\d+): Connection refused", "ConnectError", "connect",
     "nothing listens at {1} port {2} (connection refused)"),
    (r"ssh: connect to host (\S+) port (\d+): (?:Connection|Operation) timed out", "ConnectTimeout", "connect",
     "no answer from {1} port {2} in time: the host is down, or a firewall drops the packets"),
    (r"ssh: connect to host (\S+) port (\d+): (?:No route to host|Network is unreachable)", "ConnectError", "connect",
     "there is no way to {1} port {2}: {0}"),
    (r"(?:Connection to \S+ port \d+ timed out|Connection timed out during banner exchange)", "ConnectTimeout",
     "connect", "the host took the connection and then said nothing: {0}"),
    (r"Timeout, server (\S+) not responding", "ConnectError", "connect", "the host {1} stopped answering"),
    (r"Unable to negotiate with (.*)", "ConnectError", "connect", "ssh and the host share no algorithm: {0}"),
    (r"(?:kex_exchange_identification|ssh_exchange_identification|Connection (?:closed|reset) by)", "ConnectError",
     "connect", "the host closed the connection before login; it may have too many that log in (MaxStartups), or "
                "refuse this address: {0}"),
    (r".*(?:Bad configuration option|unsupported option|[Bb]ad configuration|keyword \S+ extra arguments)",
     "ConnectError", "start", "ssh does not take its configuration: {0}"),
    (r"(?:unknown|illegal|invalid) option|usage: ssh", "ConnectError", "start", "ssh does not take its options: {0}"),
)
# For a status of the remote shell, or of the command: (pattern, error, phase, message).
_ENDS = (
    (_EXPIRED, "AuthenticationError", "login", _EXPIRED_TEXT),
    (r"This account is (?:currently )?not available|.*account (?:is|has been) (?:disabled|locked|expired)",
     "ConnectError", "boot", "the account may not log in: {0}"),
    (r"This service allows sftp connections only|.*(?:scponly|rssh:)", "ConnectError", "boot",
     "the account is for file transfer only: {0}"),
    (r".*is not recognized as (?:an internal or external command|(?:the|a) name of)", "ConnectError", "boot",
     "the host runs Windows, where nothing of this can run; go to a Linux in it (WSL) by its own sshd: {0}"),
    (r"(?:.*[\s:])?(?:env|sh): (?:[Cc]ommand |applet |inaccessible or )?not found|.*command not found: (?:env|sh)$|"
     r".*Unknown command:? '?(?:env|sh)$|(?:.*[\s:])?'?(?:env|sh)'?: No such file", "ConnectError", "boot",
     "the account's shell finds neither sh nor env; its PATH there is empty or wrong: {0}"),
)
_FORCED = ("; if authorized_keys or sshd_config force a command (command=, ForceCommand), that has to run "
           "$SSH_ORIGINAL_COMMAND, by a shell")
_SILENT = (" and said nothing: the host let us in, then closed the connection or opened no session (MaxSessions, or a "
           "limit of the account); its log says which")


def classify(method: str, status: "Optional[int]", output: str) -> "Tuple[str, str, str]":
    """Why ssh ended before HELLO: (error class name, message, phase).

    status: its returncode, 255 for ssh's own failures, else that of the command there. output: the last lines of
    stderr and terminal. Pure; any text will do.
    """
    if status == 255 or status is None:
        return explained(_ERRORS, output) or (
            "ConnectError", "ssh %s%s" % (how_it_ended(status), last_line(output) or _SILENT), "connect")
    program = missing(status, output)
    if program:
        return "ConnectError", "%s cannot be run; install OpenSSH's client, or say ssh=" % program, "start"
    searched = not_found(output)
    if searched:
        return "ConnectError", "the host has " + searched, "boot"
    found = explained(_ENDS, output)
    if found:
        return found
    if status == 127:
        return "ConnectError", "the host has no such Python%s; say which by python=" % last_line(output), "boot"
    if status == 126:
        return "ConnectError", "the host cannot run this Python%s; say which by python=" % last_line(output), "boot"
    return "ConnectError", "the command on the host %s before it said hello%s%s" % (
        how_it_ended(status), last_line(output), _FORCED if status in (0, 1, 2, 128) else ""), "boot"
