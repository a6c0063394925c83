"""A host as ssh_config and the files of known host keys have it, before it is asked; for ``paramiko_link``.

Nothing is sent to a host before its key has been found in the files of known host keys: no user name, no key, no
secret. What a file says that cannot be carried out here ends the attempt with an error that names it.
"""
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# the options of a Transport are sequences, whatever the stubs say

import glob
import os
import pwd
import socket
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from contextree.connect import known_hosts, ssh_config
from contextree.connect.known_hosts import AUTHORITY, CHANGED, KNOWN, NEW, OTHER, REVOKED
from contextree.connect.ssh_config import ConfigError, Lookup, expand
from contextree.connect.ssh_paramiko import NOT_HERE, Access, jumps

if TYPE_CHECKING:
    from contextree.master.paramiko_wire import Line

SYSTEM = "/etc/ssh"
HOPS = 16


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

    def family(self) -> int:
        """Which addresses: of the ``socket`` module."""
        wanted = (self.config.get("addressfamily") or "any").lower()
        return {"inet": socket.AF_INET, "inet6": socket.AF_INET6}.get(wanted, socket.AF_UNSPEC)

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
        if self.access.known_hosts is not None:
            return [os.path.expanduser(self.access.known_hosts)]
        user = self.config.list("userknownhostsfile") or ["~/.ssh/known_hosts", "~/.ssh/known_hosts2"]
        system = self.config.list("globalknownhostsfile") or [SYSTEM + "/ssh_known_hosts", SYSTEM + "/ssh_known_hosts2"]
        return [self.expand(path) for path in user + system if path.lower() != "none"]

    def key_name(self) -> "tuple[str, int]":
        """Under which name and port the host's key is looked up."""
        alias = self.config.get("hostkeyalias")
        return (alias, 22) if alias else (self.name, self.port)

    def known(self) -> "list[known_hosts.Entry]":
        """All that the files say."""
        return [entry for path in self.known_files() if os.path.isfile(path)
                for entry in known_hosts.entries(_text(path), path)]

    def check(self, key: Any) -> None:
        """Is it the right host? Failure if not."""
        policy = self.access.host_keys
        if policy == "off":
            if self.target:
                return
            policy = "strict"  # that was said of the host
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

    def prepare(self, line: "Line") -> None:
        """Which algorithms to speak: those of ssh_config, host keys of known kinds first."""
        options = line.get_security_options()
        available = {"ciphers": options.ciphers, "digests": options.digests}
        options.ciphers = sorted((name for name in options.ciphers if "cbc" not in name), key=_no_gcm)
        options.digests = [name for name in options.digests if "md5" not in name and "96" not in name]
        for key, field in (("ciphers", "ciphers"), ("macs", "digests"), ("kexalgorithms", "kex"),
                           ("hostkeyalgorithms", "key_types")):
            text = self.config.get(key)
            if text:
                chosen = choose(text, tuple(available.get(field, getattr(options, field))))
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


def _no_gcm(name: str) -> bool:
    """In the order of ciphers GCM is first: it takes a third less of the processor here than CTR with a MAC."""
    return "gcm" not in name


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
