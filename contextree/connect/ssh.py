"""A host by the system's ``ssh``, so that ssh_config, agents, jumps and known_hosts mean what they mean to the user.

What we insist on, on the command line, where ssh takes the first value it meets (so neither ssh_config nor
``extra_args`` can undo it silently):

* the host key is checked strictly, unless the caller says otherwise here;
* no agent, X11 or port forwarding, no local command, no connection sharing unless asked;
* stdin and stdout are a clean pipe: no terminal there (-T), and nothing else is written to them;
* without a secret ssh never asks (BatchMode); with one it asks on a terminal of ours, once, and only the prompt that
  names the user and the host gets it. Secrets are in no argument, environment variable or file;
* a dead connection is noticed by ServerAlive, during the key exchange too, where ConnectTimeout does not count; the
  other end notices by ``contextree.parent.linkwatch``.

ProxyJump's ssh is started by ssh itself and takes its options from ssh_config. It can ask nobody: without a secret
there is no terminal, and with one, its questions end the login with an error that names who asked. So an unknown key
of a jump host is refused as well.

HostName, User and Port of ssh_config count unless they are given. A prompt shows the names that ssh found, so
``Plan.probe`` (``ssh -G``) tells them to the dialogue; without it the names as given are expected.

Why this file is long: options, prompts and errors of one program, which are read beside its manual.
"""

import re

from contextree.connect.dialogue import Dialogue, prompt
from contextree.connect.discover import WORDS
from contextree.connect.plan import (
    PYTHON_QUOTED,
    Plan,
    checked_name,
    checked_phases,
    checked_secret,
    how_it_ended,
    last_line,
    python_words,
)
from contextree.connect.quote import quote
from contextree.core.wire.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Match, Optional, Sequence, Tuple, Union

    from _typeshed import StrPath

    from contextree.connect.dialogue import Rule
    from contextree.connect.options import GrowOptions
    from contextree.connect.plan import Secret

    class Options(GrowOptions, total=False):
        """What ``Grower.ssh`` takes beside the host: what ``plan`` does."""

        user: Optional[str]
        port: Union[None, int, str]
        identity_file: Optional[StrPath]
        password: Optional[str]
        passphrase: Optional[str]
        python: Union[None, str, Sequence[str]]
        ssh_config: Optional[StrPath]
        jump: Union[None, str, Sequence[str]]
        host_keys: str
        known_hosts: Optional[StrPath]
        extra_args: Sequence[str]
        ssh: Union[str, Sequence[str]]
        connect_timeout: Union[float, Dict[str, float]]
        keepalive: int
        keepalive_count: int
        compression: bool
        forward_agent: bool
        control_path: Optional[StrPath]
        plain_prompts: bool
        name: Optional[str]
        transport: Optional[str]  # see ssh_paramiko, whose are the next ones
        key: object
        certificate_file: Optional[StrPath]

HOST_KEYS = {"strict": "yes", "accept-new": "accept-new", "off": "no"}

# What may stand in ssh_config's ProxyCommand as %h and %r, which a shell reads, must mean nothing there.
_BAD = re.compile(r"""[\s\x00-\x1f\x7f-\x9f'"`$;&<>|(){}*?!#,/]""")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[\w.-]+)?")


def plan(host: str, user: "Optional[str]" = None, port: "Union[None, int, str]" = None,
         identity_file: "Optional[StrPath]" = None, password: "Optional[str]" = None,
         passphrase: "Optional[str]" = None, python: "Union[None, str, Sequence[str]]" = None,
         ssh_config: "Optional[StrPath]" = None, jump: "Union[None, str, Sequence[str]]" = None,
         host_keys: str = "strict", known_hosts: "Optional[StrPath]" = None,
         extra_args: "Sequence[str]" = (), ssh: "Union[str, Sequence[str]]" = "ssh",
         connect_timeout: "Union[float, Dict[str, float]]" = 30, keepalive: int = 1, keepalive_count: int = 3,
         compression: bool = False, forward_agent: bool = False,
         control_path: "Optional[StrPath]" = None, plain_prompts: bool = False,
         name: "Optional[str]" = None) -> Plan:
    """A Plan for an interpreter on `host`.

    host             a name, an alias of ssh_config, an address (IPv6 with or without brackets), or ``user@host``.
    user, port       as for ssh -l and -p; None leaves them to ssh_config.
    identity_file    path of a private key; then no other key is offered than this and those that ssh_config names.
    password         for the account; passphrase: for the key file. str or Secret.
    python           the interpreter there: str, split as a shell would, or list of words. A leading ``~/`` is home.
                     None: the first one found, see ``contextree.connect.discover``.
    ssh_config       path of the configuration to use instead of the user's and the system's (ssh -F).
    jump             ``[user@]host[:port]``, a list of them, or "none" to ignore ssh_config's ProxyJump.
    host_keys        "strict": it must be known. "accept-new": a new one is stored, a changed one refused.
                     "off": not checked; the plan says so in ``warnings``.
    known_hosts      path of the file to use instead of the user's and the system's.
    extra_args       further words for ssh, before the host. What is set here already cannot be changed by them.
    ssh              the program: a path, or several words.
    connect_timeout  seconds for each phase, or a dict with some of "connect", "login", "boot".
    keepalive        seconds without a word from the other end until ssh asks; after keepalive_count questions
                     without an answer it gives up. So a link that is silent for 4 s is dead, at both ends: raise these
                     for links that are worse. A host that is merely busy or stopped still answers.
    control_path     path of a control socket, to share a connection (its folder must be the user's alone).
    plain_prompts    let ``Password:`` without a host's name have the password. OpenSSH before 8.5 asks so for
                     keyboard-interactive; it cannot be told from a jump host that asks.
    name             the context's name, ``ssh.HOST`` if not given.

    Raises UsageError for what cannot be passed on safely. Any thread.
    """
    user, host = split_host(host, user)
    secrets = {"password": checked_secret(password, "password"), "passphrase": checked_secret(passphrase, "passphrase")}
    python, phases = python_words(python) or WORDS, checked_phases(connect_timeout)
    quote(python, tilde=True)                                # now rather than when it is started
    asks = any(secrets.values())
    options = _security(asks, host_keys, known_hosts, forward_agent, control_path) + [
        "LogLevel=ERROR",
        "RemoteCommand=none",
        "ConnectTimeout=%d" % max(1, round(phases["connect"])),
        "ServerAliveInterval=%d" % _count(keepalive, "keepalive"),
        "ServerAliveCountMax=%d" % _count(keepalive_count, "keepalive_count"),
        "Compression=%s" % ("yes" if compression else "no")]
    argv = _program(ssh) + ["-T", "-A" if forward_agent else "-a", "-x"]
    if ssh_config is not None:
        argv += ["-F", _path(ssh_config, "ssh_config")]
    for option in options:
        argv += ["-o", option]
    if user is not None:
        argv += ["-l", user]
    if port is not None:
        argv += ["-p", str(_port(port))]
    if identity_file is not None:
        argv += ["-o", "IdentitiesOnly=yes", "-i", _percent(_path(identity_file, "identity_file"))]
    if jump is not None:
        argv += ["-J", _jumps(jump)]
    argv += [_text(word, "extra_args") for word in extra_args]
    dialogue = SshDialogue(user, host, identity_file, plain_prompts, secrets) if asks else None
    warnings = ["the host key of %s is not checked (host_keys='off')" % host] if host_keys == "off" else ()
    return Plan(argv + ["--", host, PYTHON_QUOTED], checked_name(name, _default_name(host, port)), "ssh", tty=asks,
                dialogue=dialogue, env={"SSH_ASKPASS_REQUIRE": "never"}, python=python, remote=True, phases=phases,
                probe=argv + ["-G", "--", host] if asks else None, warnings=warnings, classify=classify,
                silence=keepalive * (keepalive_count + 1))


def _security(asks: bool, host_keys: str, known_hosts: "Optional[StrPath]", forward_agent: bool,
              control_path: "Optional[StrPath]") -> "List[str]":
    if host_keys not in HOST_KEYS:
        raise UsageError("host_keys=%r: it is one of %s" % (host_keys, ", ".join(map(repr, sorted(HOST_KEYS)))))
    options = ["StrictHostKeyChecking=" + HOST_KEYS[host_keys], "BatchMode=" + ("no" if asks else "yes")]
    if known_hosts is not None or host_keys == "off":
        files = "/dev/null" if known_hosts is None else _quoted(_percent(_path(known_hosts, "known_hosts")))
        options += ["UserKnownHostsFile=" + files, "GlobalKnownHostsFile=/dev/null"]
    if asks:
        options += ["NumberOfPasswordPrompts=1"]
    options += ["ForwardAgent=" + ("yes" if forward_agent else "no"), "ForwardX11=no", "ClearAllForwardings=yes",
                "Tunnel=no", "PermitLocalCommand=no"]
    if control_path is None:
        return options + ["ControlMaster=no", "ControlPath=none"]
    return options + ["ControlMaster=auto", "ControlPersist=no",
                      "ControlPath=" + _quoted(_path(control_path, "control_path"))]


# -- arguments

def split_host(host: str, user: "Optional[str]" = None) -> "Tuple[Optional[str], str]":
    """(user or None, host without brackets) of a ``host=`` and a ``user=`` argument; raises UsageError."""
    if not isinstance(host, str):
        raise UsageError("host= wants a str, not %s" % type(host).__name__)
    if "://" in host:
        raise UsageError("host=%r is a URL; give the host's name, and user= and port= where needed" % host)
    if "@" in host:
        named, host = host.rsplit("@", 1)
        if user is not None and user != named:
            raise UsageError("host= names the user %r and user= is %r" % (named, user))
        user = named
    if user is not None:
        _user(user)
    if host.startswith("["):
        if not host.endswith("]"):
            raise UsageError("host=%r: give the port by port=" % host)
        host = host[1:-1]
        if not _IPV6.fullmatch(host):
            raise UsageError("host=[%s] is no IPv6 address" % host)
    _host(host)
    return user, host


def _host(host: str) -> None:
    if not host or host.startswith("-") or _BAD.search(host) or "\\" in host or "[" in host or "]" in host:
        raise UsageError("%r is no host: a name of letters, digits, '.', '-' and '_', or an address" % host)
    if ":" in host and not _IPV6.fullmatch(host):
        raise UsageError("%r is no host; a port is given by port=" % host)


def _user(user: object) -> None:
    if (not isinstance(user, str) or not user or user.startswith("-") or _BAD.search(user)
            or user.endswith("\\")):
        raise UsageError("%r is no user: it is empty, begins with '-', ends with a backslash, or has blanks, "
                         "quotes or other characters of the shell in it" % (user,))


def _port(port: object) -> "Union[int, str]":
    if isinstance(port, str) and re.fullmatch("[0-9]{1,5}", port):
        port = int(port)
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        raise UsageError("port= wants a number from 1 to 65535, not %r" % (port,))
    return port


def _count(number: object, what: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number < 100000:
        raise UsageError("%s= wants a whole number from 1 up, not %r" % (what, number))
    return number


def _text(word: object, what: str) -> str:
    if not isinstance(word, str) or not word or re.search("[\x00-\x1f\x7f]", word):
        raise UsageError("%s= has %r in it; it wants str without control characters" % (what, word))
    return word


def _path(path: "StrPath", what: str) -> str:
    if not isinstance(path, str):
        path = path.__fspath__() if hasattr(path, "__fspath__") else path
    path = _text(path, what)
    if path.startswith("-"):
        raise UsageError("%s=%r begins with '-'; write './%s'" % (what, path, path))
    return path


def _percent(path: str) -> str:
    """ssh replaces %h and ${HOME} in some paths; ours are meant as they stand."""
    if "${" in path:
        raise UsageError("ssh would replace the '${' in the path %r" % path)
    return path.replace("%", "%%")


def _quoted(path: str) -> str:
    """Inside -o, a path with blanks needs quotes, and one with quotes cannot be told."""
    if '"' in path or "\\" in path:
        raise UsageError("ssh cannot take the path %r: it has a quote or a backslash in it" % path)
    return '"%s"' % path if " " in path or "#" in path else path


def _program(ssh: "Union[str, Sequence[str]]") -> "List[str]":
    words = ssh.split() if isinstance(ssh, str) else list(ssh)
    if not words:
        raise UsageError("ssh= is empty; it wants the program's name")
    return [_text(word, "ssh") for word in words]


def _jumps(jump: "Union[str, Sequence[str]]") -> str:
    hops = jump.split(",") if isinstance(jump, str) else list(jump)
    if hops == ["none"]:
        return "none"
    out = []
    for hop in hops:
        match = re.fullmatch(r"(?:(.*)@)?(\[[^\]]*\]|[^:]*|.*:.*:.*?)(?::([0-9]+))?", hop, re.DOTALL)
        if not match:
            raise UsageError("jump=%r: it is [user@]host[:port], or a list of them" % (hop,))
        user, host = split_host(match.group(2), match.group(1))
        bracketed = "[%s]" % host if ":" in host else host
        out.append(("" if user is None else user + "@") + bracketed
                   + ("" if match.group(3) is None else ":%s" % _port(match.group(3))))
    if not out:
        raise UsageError("jump= is empty; give None for no jump")
    return ",".join(out)


def _default_name(host: str, port: "Union[None, int, str]") -> str:
    return "ssh.%s" % host if port is None or int(port) == 22 else "ssh.%s:%s" % (host, port)


# -- the dialogue

class SshDialogue(Dialogue):
    """What ssh asks on its terminal, and who gets which secret."""

    def __init__(self, user: "Optional[str]", host: str, identity_file: "Optional[StrPath]", plain_prompts: bool,
                 secrets: "Dict[str, Optional[Secret]]") -> None:
        self.user, self.host = user, host.lower()
        self.identity_file = identity_file
        self.plain_prompts = plain_prompts
        Dialogue.__init__(self, (), secrets)
        self.rules = self._rules()

    def learn(self, data: bytes) -> None:
        """Take what ``ssh -G`` wrote: the names of user and host that ssh will show in its prompts."""
        found = {}  # type: Dict[str, str]
        for row in data.decode("utf-8", "replace").splitlines():
            key, _, value = row.partition(" ")
            found.setdefault(key, value.strip())
        if found.get("user") and found.get("hostname"):
            self.user = found["user"]
            alias = found.get("hostkeyalias", "none")
            self.host = found["hostname"].lower() if alias in ("", "none") else alias
            self.rules = self._rules()

    def _rules(self) -> "Tuple[Rule, ...]":
        names = (re.escape(self.user) if self.user else "[^@ ]+") + "@" + re.escape(self.host)
        who = names.encode("utf-8", "surrogateescape")
        asked = b"(?:" + who + rb"'s password|\(" + who + rb"\) [Pp]assword(?: for [\w.@\\:-]+)?): ?"
        if self.plain_prompts:
            asked = b"(?:" + asked + b"|[Pp]assword: ?)"
        key = b"(?P<what>[^\n]*)"
        if self.identity_file is not None:       # ssh shows it with ~ and %d replaced
            key = b"(?P<what>(?:.*/)?" + re.escape(str(self.identity_file).split("/")[-1]).encode(
                "utf-8", "surrogateescape") + b")"
        rules = []
        if "password" in self.secrets:
            rules.append(prompt(asked, "reply", secret="password", text="the password was refused"))
        else:
            rules.append(prompt(asked, "fail", text="the host asks for a password, and password= was not given"))
        if "passphrase" in self.secrets:
            rules.append(prompt(b"Enter passphrase for key '" + key + b"': ?", "reply", secret="passphrase",
                                text="the passphrase was refused: {prompt}"))
        return tuple(rules) + _COMMON_RULES


_COMMON_RULES = (
    # Another key than the one whose passphrase we have: an empty answer makes ssh go on without it.
    prompt(b"Enter passphrase for key '[^\n]*': ?", "empty"),
    prompt(rb"Enter PIN for [^\n]*: ?", "fail", text="the key wants a PIN, which cannot be given here: {prompt}"),
    prompt(rb"Are you sure you want to continue connecting [^\n]*\? ?|Please type 'yes'[^\n]*: ?", "fail",
           error="HostKeyError", text="the host key of a jump host is not known; connect to it once by hand, or add "
                                      "its key to known_hosts"),
    prompt(rb"(?i)(?:\([^)\s]*@[^)\s]*\) )?(?:enter |retype )?(?:\S+@\S+'s )?(?:\(current\) |current |old |new "
           rb"|retype new )(?:unix )?password: ?", "fail",
           text="the password has expired and must be changed first: {prompt}"),
    prompt(rb"\S+@\S+'s [Pp]assword: ?|\([^)\s]*@[^)\s]*\) [^\n]*[:?] ?", "fail",
           text="it asks what cannot be answered here, or somebody asks whom no secret was meant for: {prompt}"),
    prompt(rb"[Pp]assword: ?", "fail",
           text="'Password:' does not say which host asks (ssh before OpenSSH 8.5); if it is no jump host, say "
                "plain_prompts=True"),
)


# -- why it failed

_FIRST = r"(?m)^(?:%s)"
# (pattern, error, phase, message); for ssh's own errors, status 255. {0} is the line, {1} ... are groups.
_ERRORS = tuple((re.compile(_FIRST % pattern), error, phase, text) for pattern, error, phase, text in (
    (r"@ +WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for (\S+) has changed", "HostKeyError", "connect",
     "the host key has changed since it was stored in known_hosts: either the host was installed anew, or somebody "
     "is in between. Find out, then remove the old key by ssh-keygen -R"),
    (r"No (\S+) host key is known for (\S+) and", "HostKeyError", "connect",
     "the {1} host key of {2} is not known; connect once by hand, add it to known_hosts, or say "
     "host_keys='accept-new'"),
    (r".*(?:has been revoked|is marked as revoked)", "HostKeyError", "connect", "the host key is revoked: {0}"),
    (r"Host key verification failed", "HostKeyError", "connect",
     "the host key of the host, or of a jump host, is not known; add it to known_hosts"),
    (r"(\S+@\S+): Permission denied \(([^)]*)\)", "AuthenticationError", "login",
     "{1} was refused (the host takes {2}); check user=, the key, or the password"),
    (r"(?:.*Too many authentication failures)", "AuthenticationError", "login",
     "the host ended the login after too many tries; give identity_file=, so that only this key is offered"),
    (r".*(?:[Pp]assword has expired|[Pp]assword change required)", "AuthenticationError", "login",
     "the password has expired and must be changed first: {0}"),
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
     "connect", "the host closed the connection before login; it may be overloaded (MaxStartups) or refuse this "
                "address: {0}"),
    (r".*(?:Bad configuration option|unsupported option|[Bb]ad configuration|keyword \S+ extra arguments)",
     "ConnectError", "start", "ssh does not take its configuration: {0}"),
    (r"(?:unknown|illegal|invalid) option|usage: ssh", "ConnectError", "start", "ssh does not take its options: {0}"),
))
# For a status of the remote shell, or of the command.
_ENDS = tuple((re.compile(_FIRST % pattern), text) for pattern, text in (
    (r"This account is (?:currently )?not available|.*account (?:is|has been) (?:disabled|locked|expired)",
     "the account may not log in: {0}"),
    (r"This service allows sftp connections only", "the account is for file transfer only: {0}"),
))
_NO_SSH = re.compile(r"(?m)^\S+: (?:line )?\d*:? ?exec: (?:line \d+: )?(\S+): (?:not found|cannot execute|Permission)")


def classify(method: str, status: "Optional[int]", output: str) -> "Tuple[str, str, str]":
    """Why ssh ended before HELLO: (error class name, message, phase).

    status: its returncode, 255 for ssh's own failures, else that of the command there. output: the last lines of
    stderr and terminal. Pure; any text will do.
    """
    if status == 255 or status is None:
        for pattern, error, phase, text in _ERRORS:
            match = pattern.search(output)
            if match:
                return error, _fill(text, match), phase
        return "ConnectError", "ssh %s%s" % (how_it_ended(status), last_line(output)), "connect"
    missing = _NO_SSH.search(output)
    if missing and status in (126, 127):
        return "ConnectError", "%s cannot be run; install OpenSSH's client, or say ssh=" % missing.group(1), "start"
    for pattern, text in _ENDS:
        match = pattern.search(output)
        if match:
            return "ConnectError", _fill(text, match), "boot"
    if status == 127:
        return "ConnectError", "the host has no such Python%s; say which by python=" % last_line(output), "boot"
    if status == 126:
        return "ConnectError", "the host cannot run this Python%s; say which by python=" % last_line(output), "boot"
    return "ConnectError", "the command on the host %s before it said hello%s" % (
        how_it_ended(status), last_line(output)), "boot"


def _fill(text: str, match: "Match[str]") -> str:
    start = match.string.rfind("\n", 0, match.start()) + 1
    whole = match.string[start:].split("\n", 1)[0].strip()
    for number, part in enumerate((whole,) + match.groups()):
        text = text.replace("{%d}" % number, part or "")
    return text
