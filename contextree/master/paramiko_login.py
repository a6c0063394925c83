"""Whom paramiko talks to and as whom: ssh_config, known host keys, keys, the login. Blocking; on a connection's thread.

Nothing is sent to a host before its key has been found in the files of known host keys: no user name, no key, no
secret. What a file says that cannot be carried out here ends the attempt with an error that names it.
"""

import base64
import copy
import glob
import os
import pwd
import socket
import stat
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import paramiko
from paramiko.agent import AgentSSH
from paramiko.auth_handler import AuthOnlyHandler
from paramiko.common import MSG_SERVICE_ACCEPT, cMSG_SERVICE_REQUEST, cMSG_USERAUTH_REQUEST
from paramiko.message import Message
from paramiko.pkey import PublicBlob

from contextree.connect import known_hosts, ssh_config
from contextree.connect.known_hosts import AUTHORITY, CHANGED, KNOWN, NEW, OTHER, REVOKED
from contextree.connect.ssh_config import ConfigError, Lookup, expand
from contextree.connect.ssh_paramiko import NOT_HERE, Access, Answers, Refused, jumps
from contextree.master.paramiko_wire import Line

DEFAULT_KEYS = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_xmss")
SYSTEM = "/etc/ssh"
HOPS = 16
MAGIC = b"openssh-key-v1\0"


class Failure(Exception):
    """It cannot go on. ``error``: a class name of ``core.wire.errors``, or "" where the text is in ssh's words, which
    ``connect.ssh.classify`` knows."""

    def __init__(self, text: str, error: str = "", phase: str = "connect") -> None:
        super().__init__(text)
        self.error = error
        self.phase = phase


class Hop:
    """One host on the way, with what is known of it before it is asked."""

    def __init__(self, access: Access, host: str, user: str | None, port: int | None, target: bool) -> None:
        self.access = access
        self.target = target
        self.home = os.path.expanduser("~")
        self.me = pwd.getpwuid(os.getuid()).pw_name
        given = {key: str(value) for key, value in (("user", user), ("port", port)) if value is not None}
        self.config = config = Lookup(host, self.me, self._include, given)
        config.read(self._files())
        for key, harmless in NOT_HERE.items():
            value = config.get(key)
            if value is not None and value.lower() not in harmless:
                raise ConfigError("%s: transport='paramiko' cannot do what '%s %s' says; leave transport= out, or "
                                  "change the file" % (config.where[key], key, value))
        self.alias = host
        self.name = config.host.lower() if ":" not in config.host else config.host
        self.port = int(config.get("port") or 22)
        self.user = config.get("user") or self.me

    def __str__(self) -> str:
        return self.alias

    # -- ssh_config

    def _files(self) -> "list[tuple[str, str, bool]]":
        path = self.access.ssh_config
        if path is not None:
            return [] if path.lower() == "none" else [(path, _text(os.path.expanduser(path)), True)]
        found = []
        own = os.path.join(self.home, ".ssh", "config")
        if os.path.exists(own):
            info = os.stat(own)
            if info.st_uid not in (0, os.getuid()) or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise ConfigError("%s belongs to somebody else, or others may write to it" % own)
            found.append((own, _text(own), True))
        system = os.path.join(SYSTEM, "ssh_config")
        if os.path.exists(system):
            found.append((system, _text(system), False))
        return found

    def _include(self, pattern: str, user: bool) -> "list[tuple[str, str]]":
        path = expand(pattern, {"%": "%", "d": self.home, "u": self.me}, os.environ, self.home)
        path = os.path.join(os.path.join(self.home, ".ssh") if user else SYSTEM, path)
        return [(name, _text(name)) for name in sorted(glob.glob(path)) if os.path.isfile(name)]

    def expand(self, text: str) -> str:
        """A path of ssh_config with its tokens replaced."""
        local = socket.gethostname()
        tokens = {"%": "%", "h": self.name, "p": str(self.port), "r": self.user, "n": self.alias, "u": self.me,
                  "d": self.home, "i": str(os.getuid()), "l": local, "L": local.partition(".")[0],
                  "k": self.config.get("hostkeyalias") or self.alias, "j": self.config.get("proxyjump") or ""}
        return expand(text, tokens, os.environ, self.home)

    def yes(self, key: str, default: bool) -> bool:
        """A keyword that is yes or no."""
        return (self.config.get(key) or ("yes" if default else "no")).lower() in ("yes", "true")

    def way(self, depth: int = 0) -> "list[Hop]":
        """The hosts to go through, this one last."""
        if depth > HOPS:
            raise ConfigError("the jump hosts of %s lead in a circle" % self)
        jump = self.access.jump if self.target else None
        if jump is None:
            text = self.config.get("proxyjump")
            jump = [] if text is None or text.lower() == "none" else jumps(expand_jump(text, self))
        elif self.config.where.get("proxycommand"):
            self.config.values.pop("proxycommand", None)  # jump= comes before it, as -J does
        return [*_chain(self.access, jump, depth), self]

    # -- host keys

    def known_files(self) -> "list[str]":
        """The files of known host keys, the one that a new key would go to first."""
        own = [self.access.known_hosts] if self.access.known_hosts is not None else []
        if own and self.target:
            return [os.path.expanduser(own[0])]
        if self.access.host_keys == "off" and self.target:
            return []
        user = self.config.list("userknownhostsfile") or ["~/.ssh/known_hosts", "~/.ssh/known_hosts2"]
        system = self.config.list("globalknownhostsfile") or [SYSTEM + "/ssh_known_hosts", SYSTEM + "/ssh_known_hosts2"]
        return [self.expand(path) for path in own + user + system if path.lower() != "none"]

    def key_name(self) -> "tuple[str, int]":
        """Under which name and port the host's key is looked up."""
        alias = self.config.get("hostkeyalias")
        return (alias, 22) if alias else (self.name, self.port)

    def known(self) -> "list[known_hosts.Entry]":
        """All that the files say."""
        return [entry for path in self.known_files() if os.path.isfile(path)
                for entry in known_hosts.entries(_text(path), path)]

    def check(self, key: "paramiko.PKey") -> None:
        """Is it the right host? Failure if not."""
        policy = self.access.host_keys if self.target else "strict"
        if policy == "off":
            return
        name, port = self.key_name()
        kind, text = key.get_name(), key.get_base64()
        verdict, where = known_hosts.verdict(self.known(), name, port, kind, text)
        if verdict == KNOWN:
            return
        short = {"ssh-ed25519": "ED25519", "ssh-rsa": "RSA"}.get(kind, "ECDSA" if kind.startswith("ecdsa") else kind)
        shown = "%s key %s" % (short, key.fingerprint)
        spelled = known_hosts.spelled(name, port)
        if verdict == REVOKED:
            raise Failure("the host key is revoked: the %s of %s is marked as revoked in %s" % (shown, spelled, where),
                          "HostKeyError")
        if verdict in (CHANGED, OTHER):
            raise Failure("the host key has changed since it was stored in known_hosts: either the host was installed "
                          "anew, or somebody is in between. It shows the %s, %s has another for %s. Find out, then "
                          "remove the old key by ssh-keygen -R" % (shown, where, spelled), "HostKeyError")
        if verdict == AUTHORITY:
            raise Failure("of %s only a certificate authority is known (%s), and paramiko cannot check certificates of "
                          "hosts: add the host's own key to known_hosts, or leave transport= out" % (spelled, where),
                          "HostKeyError")
        if verdict != NEW or policy != "accept-new":
            raise Failure("the %s of %s is not known; connect once by hand, add it to known_hosts, or say "
                          "host_keys='accept-new'" % (shown, spelled), "HostKeyError")
        self._store(spelled, kind, text)

    def _store(self, name: str, kind: str, key: str) -> None:
        if self.yes("hashknownhosts", False):
            name = known_hosts.hashed(name, os.urandom(20))
        files = self.known_files()
        if not files:
            return
        os.makedirs(os.path.dirname(os.path.abspath(files[0])), 0o700, exist_ok=True)
        try:
            fd = os.open(files[0], os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                size = os.fstat(fd).st_size
                gap = b"\n" if size and os.pread(fd, 1, size - 1) != b"\n" else b""
                os.write(fd, gap + ("%s %s %s\n" % (name, kind, key)).encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise Failure("the new key of %s cannot be stored in %s: %s" % (name, files[0], error.strerror),
                          "HostKeyError") from None

    # -- algorithms

    def prepare(self, line: Line) -> None:
        """Which algorithms to speak: those of ssh_config, host keys of known kinds first."""
        options = line.get_security_options()
        for key, field in (("ciphers", "ciphers"), ("macs", "digests"), ("kexalgorithms", "kex"),
                           ("hostkeyalgorithms", "key_types")):
            text = self.config.get(key)
            if text:
                chosen = choose(text, getattr(options, field))
                if not chosen:
                    raise Failure("ssh and the host share no algorithm: paramiko has none of '%s %s' (%s)" % (
                        key, text, self.config.where[key]), "ConnectError")
                setattr(options, field, chosen)
        text = self.config.get("pubkeyacceptedalgorithms")
        if text:
            allowed = choose(text, line.preferred_pubkeys)
            line.disabled_algorithms = {"pubkeys": [each for each in line.preferred_pubkeys if each not in allowed]}
        known = set(known_hosts.kinds(self.known(), *self.key_name()))
        if known:
            if "ssh-rsa" in known:
                known |= {"rsa-sha2-256", "rsa-sha2-512"}
            options.key_types = tuple(sorted(options.key_types, key=lambda kind: kind not in known))
        line.use_compression(self.access.compression if self.target else self.yes("compression", False))

    def environment(self) -> "Iterator[tuple[str, str]]":
        """Variables that ssh_config wants to be sent."""
        for pair in self.config.list("setenv"):
            name, _, value = pair.partition("=")
            yield name, value
        patterns = self.config.list("sendenv")
        for name, value in os.environ.items():
            if ssh_config.in_list(patterns, name):
                yield name, value


def expand_jump(text: str, hop: Hop) -> str:
    """ProxyJump may have tokens."""
    return expand(text, {"%": "%", "h": hop.name, "n": hop.alias, "p": str(hop.port), "r": hop.user}, {}, "~")


def _chain(access: Access, jump: "list[tuple[str | None, str, int | None]]", depth: int) -> list[Hop]:
    """The hops of a list of jump hosts: the way to the first is its own, the others follow each other."""
    hops: list[Hop] = []
    for user, host, port in jump:
        hop = Hop(access, host, user, port, False)
        hops += [hop] if hops else hop.way(depth + 1)
    return hops


def choose(text: str, available: "tuple[str, ...]") -> "tuple[str, ...]":
    """What a list of algorithms in ssh_config leaves of what there is: ``+``, ``-`` and ``^`` as in ssh_config(5)."""
    sign, patterns = (text[0], text[1:].split(",")) if text[:1] in "+-^" else ("", text.split(","))
    fits = [name for pattern in patterns for name in available if ssh_config.matches(pattern, name)]
    fits = list(dict.fromkeys(fits))
    if sign == "+":
        return tuple(available)
    if sign == "-":
        return tuple(name for name in available if name not in fits)
    if sign == "^":
        return tuple(fits + [name for name in available if name not in fits])
    return tuple(fits)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError as error:
        raise ConfigError("%s: %s" % (path, error.strerror)) from None


# -- keys

class KeyFile:
    """A private key in a file, as much of it as can be seen without its passphrase."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.kind = ""
        self.public = b""  # its public half, where that can be seen
        with open(path, "rb") as file:
            data = file.read(1 << 20)
        head, _, rest = data.lstrip().partition(b"\n")
        label = head.strip().decode("ascii", "replace")
        if label == "-----BEGIN OPENSSH PRIVATE KEY-----":
            blob = base64.b64decode(rest.split(b"-----END")[0])
            fields = blob[len(MAGIC):]
            for _number in range(3):  # cipher, kdf, its options
                _field, fields = _string(fields)
            self.public = _string(fields[4:])[0]
            self.kind = _string(self.public)[0].decode("ascii", "replace")
        elif label in ("-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN EC PRIVATE KEY-----"):
            self.kind = "ssh-rsa" if "RSA" in label else "ecdsa"
        if not self.public and os.path.isfile(path + ".pub"):
            self.public = PublicBlob.from_file(path + ".pub").key_blob

    def load(self, passphrase: str | None) -> "paramiko.PKey":
        """The key. paramiko's exceptions, and ValueError for a wrong passphrase."""
        kinds = {"ssh-ed25519": paramiko.Ed25519Key, "ssh-rsa": paramiko.RSAKey}
        kind = paramiko.ECDSAKey if self.kind.startswith("ecdsa") else kinds.get(self.kind)
        if kind is None:
            raise paramiko.SSHException("paramiko does not know this kind of key%s" % (
                ": " + self.kind if self.kind else ""))
        return kind.from_private_key_file(self.path, password=passphrase)


def _string(data: bytes) -> "tuple[bytes, bytes]":
    size = struct.unpack_from(">I", data)[0]
    return data[4:4 + size], data[4 + size:]


class Keys:
    """The keys to offer to one host, in order, each loaded when its turn comes."""

    def __init__(self, hop: Hop, note: Callable[[str], object], keep: Callable[[Any], object]) -> None:
        self.hop = hop
        self.access = hop.access
        self.note = note  # what could not be used, for the error
        self.keep = keep  # what must be closed if the attempt is given up
        self.agent: Any = None

    def __iter__(self) -> Iterator[Any]:
        """The keys: those of the agent that are named here first, as ssh does it."""
        hop, access = self.hop, self.access
        given = access.keys if hop.target else ()
        paths = [access.identity_file] if hop.target and access.identity_file is not None else []
        chosen = bool(given or paths)
        paths = [os.path.expanduser(path) for path in paths]
        configured = hop.config.list("identityfile")
        paths += [hop.expand(path) for path in configured if path.lower() != "none"]
        named = chosen or bool(configured)
        if not named:
            paths = [os.path.join(hop.home, ".ssh", name) for name in DEFAULT_KEYS]
        files = [each for each in (self._file(path, named) for path in dict.fromkeys(paths)) if each is not None]
        certificates = [hop.expand(path) for path in hop.config.list("certificatefile")]
        if hop.target and access.certificate_file is not None:
            certificates.insert(0, os.path.expanduser(access.certificate_file))
        for key in given:
            yield from self._with_certificates(key, certificates)
        publics = {each.public for each in files if each.public}
        held = self._agent_keys()
        for key in held:
            if _plain(key) in publics:
                yield key
        if not chosen and not hop.yes("identitiesonly", False):
            for key in held:
                if _plain(key) not in publics:
                    yield key
        have = {_plain(key) for key in held}
        for file in files:
            if file.public not in have or not file.public:
                key = self._load(file)
                if key is not None:
                    beside = [file.path + "-cert.pub"] if os.path.isfile(file.path + "-cert.pub") else []
                    yield from self._with_certificates(key, certificates + beside)

    def _file(self, path: str, named: bool) -> KeyFile | None:
        try:
            return KeyFile(path)
        except OSError as error:
            if named:
                self.note("no such identity: %s: %s" % (path, error.strerror))
        except Exception as error:  # whatever a broken file makes of base64, struct and paramiko
            self.note("the key %s cannot be read: %s" % (path, error))
        return None

    def _load(self, file: KeyFile) -> Any:
        mine = self.hop.target and self.access.passphrase is not None
        passphrase = self.access.passphrase.reveal() if mine and self.access.passphrase is not None else None
        try:
            try:
                return file.load(None)
            except paramiko.PasswordRequiredException:
                if passphrase is None:
                    self.note("the key %s has a passphrase, and none was given" % file.path)
                    return None
            return file.load(passphrase)
        except Exception as error:
            own = self.access.identity_file
            if mine and own is not None and file.path == os.path.expanduser(own):
                raise Failure("the passphrase was refused: %s" % file.path, "AuthenticationError", "login") from None
            self.note("the key %s cannot be used: %s" % (file.path, error))
        return None

    def _with_certificates(self, key: Any, paths: list[str]) -> Iterator[Any]:
        for path in paths:
            certified = copy.copy(key)
            try:
                certified.load_certificate(path)
            except Exception as error:
                self.note("the certificate %s cannot be used: %s" % (path, error))
            else:
                yield certified
        yield key

    def _agent_keys(self) -> list[Any]:
        """The keys of the agent, those with certificates too."""
        path = self.hop.config.get("identityagent") or "SSH_AUTH_SOCK"
        if path.lower() == "none":
            return []
        if path == "SSH_AUTH_SOCK":
            path = os.environ.get("SSH_AUTH_SOCK", "")
        elif path.startswith("$"):
            path = os.environ.get(path[1:].strip("{}"), "")
        else:
            path = self.hop.expand(path)
        if not path:
            return []
        sock = socket.socket(socket.AF_UNIX)
        try:
            self.keep(sock)
            sock.connect(path)
            self.agent = AgentSSH()
            self.agent._connect(sock)
            keys = list(self.agent.get_keys())
        except (OSError, paramiko.SSHException) as error:
            sock.close()
            self.note("the agent at %s cannot be asked: %s" % (path, error))
            return []
        for key in keys:
            if key.get_name().endswith("-cert-v01@openssh.com"):
                key.public_blob = PublicBlob(key.get_name(), key.blob)
        return keys


def _plain(key: Any) -> bytes:
    """The public half of a key of the agent, without its certificate."""
    try:
        return bytes(key.asbytes())
    except Exception:
        return bytes(key.blob)


# -- the login

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


def log_in(line: Line, hop: Hop, answers: Answers, note: Callable[[str], object], keep: Callable[[Any], object]) -> None:
    """Log in on a line whose host has been checked. Failure where the host refuses."""
    _service(line)
    login = line.auth_handler = Login(line)
    keys = Keys(hop, note, keep)
    refusals: list[Refused] = []

    def interactive(_title: str, _instructions: str, questions: "list[tuple[str, bool]]") -> list[str]:
        try:
            return [answers.take(kind) for kind in [answers.kind(text, echo) for text, echo in questions]]
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
                    answers.secrets["one-time code"] is not None
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
