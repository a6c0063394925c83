"""A host by SSH in this very process, with the library paramiko: ``ssh(host, transport="paramiko")``.

What is in here is data and decisions: options, what to answer to which question, the words of errors. It is carried out
by ``contextree.master.paramiko_link``. The options are those of ``contextree.connect.ssh``, with the same meaning and
the same errors, but for those that are words for the ``ssh`` program; ``key``, ``certificate_file`` are here alone.
"""

import re

from contextree.connect import ssh, ssh_errors
from contextree.connect.discover import WORDS
from contextree.connect.plan import (
    PYTHON_QUOTED,
    Plan,
    Secret,
    checked_name,
    checked_phases,
    checked_secret,
    how_it_ended,
    last_line,
    python_words,
)
from contextree.connect.quote import quote
from contextree.connect.ssh_dialogue import CODE, NEW, PASSWORD
from contextree.core.wire.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple, Union

    from _typeshed import StrPath

#: The option's name, the value that says nothing: what only the ``ssh`` program has.
PROGRAM_ONLY = (("extra_args", ()), ("ssh", "ssh"), ("control_path", None), ("plain_prompts", False),
                ("forward_agent", False))

#: Keywords of ssh_config that say how a host is reached or what is checked, and that nobody here carries out: with any
#: other value than these the login is refused rather than made in another way than the file says.
NOT_HERE = {
    "proxyusefdpass": ("no",), "canonicalizehostname": ("no", "none", "false"), "revokedhostkeys": ("none",),
    "knownhostscommand": ("none",), "verifyhostkeydns": ("no", "false"), "checkhostip": ("no", "false"),
    "bindinterface": ("none",), "requiredrsasize": ("1024", "2048"), "pkcs11provider": ("none",),
}


class Access:
    """Where to log in and how: the ``transport`` of a Plan. Never changed once made.

    host, user, port   as given; None leaves them to ssh_config.
    identity_file      path of the one private key, or None. keys: paramiko's key objects.
    certificate_file   path of a certificate for these keys, or None.
    password, passphrase   Secret or None. otp: Secret, a callable without arguments, or None.
    ssh_config         path of the configuration to use instead of the user's and the system's.
    jump               None (as ssh_config says), or a list of (user, host, port).
    host_keys          strict, accept-new, off. known_hosts: path, or None.
    keepalive, keepalive_count, compression   as for ssh.
    """

    name = "paramiko"

    __slots__ = ("host", "user", "port", "identity_file", "keys", "certificate_file", "password", "passphrase", "otp",
                 "ssh_config", "jump", "host_keys", "known_hosts", "keepalive", "keepalive_count", "compression",
                 "patience")

    if TYPE_CHECKING:
        host: str
        user: Optional[str]
        port: Optional[int]
        identity_file: Optional[str]
        keys: Tuple[Any, ...]
        certificate_file: Optional[str]
        password: Optional[Secret]
        passphrase: Optional[Secret]
        otp: Union[None, Secret, Callable[[], str]]
        ssh_config: Optional[str]
        jump: Optional[List[Tuple[Optional[str], str, Optional[int]]]]
        host_keys: str
        known_hosts: Optional[str]
        keepalive: int
        keepalive_count: int
        compression: bool
        patience: float

    def __init__(self, **fields: "Any") -> None:
        for field in self.__slots__:
            setattr(self, field, fields.get(field))

    def __repr__(self) -> str:
        return "<Access to %s>" % self.host

    def __reduce__(self) -> "Tuple[Any, ...]":
        raise UsageError("transport='paramiko' runs in the process that it was asked of; %s cannot be reached so from "
                         "another context: say jump=, or leave transport= out" % self.host)


def plan(host: str, user: "Optional[str]" = None, port: "Union[None, int, str]" = None,
         identity_file: "Optional[StrPath]" = None, password: "Optional[str]" = None,
         passphrase: "Optional[str]" = None, python: "Union[None, str, Sequence[str]]" = None,
         ssh_config: "Optional[StrPath]" = None, jump: "Union[None, str, Sequence[str]]" = None,
         host_keys: str = "strict", known_hosts: "Optional[StrPath]" = None,
         connect_timeout: "Union[float, Dict[str, float]]" = 30, keepalive: int = 1, keepalive_count: int = 3,
         compression: bool = False, otp: "Union[None, str, Callable[[], str]]" = None, key: "Any" = None,
         certificate_file: "Optional[StrPath]" = None, name: "Optional[str]" = None, extra_args: "Sequence[str]" = (),
         ssh: "Union[str, Sequence[str]]" = "ssh", control_path: "Optional[StrPath]" = None,
         plain_prompts: bool = False, forward_agent: bool = False) -> "Plan":
    """A Plan for an interpreter on `host`, reached without the ``ssh`` program.

    The options are those of ``contextree.connect.ssh.plan``, and:

    otp               the one-time code: str, Secret, or a callable without arguments that is asked when the host asks.
    key               a private key as an object of paramiko (PKey), or a list of them: then no other key is offered
                      than these and those that ssh_config names.
    certificate_file  path of the certificate of ``identity_file`` or ``key``. Where it is not given, what stands
                      beside the key file with ``-cert.pub`` at the end of its name is used, as ssh does.

    Raises UsageError. Any thread.
    """
    given = dict(zip((pair[0] for pair in PROGRAM_ONLY),
                     (tuple(extra_args), ssh, control_path, plain_prompts, forward_agent)))
    for option, nothing in PROGRAM_ONLY:
        if given[option] != nothing:
            raise UsageError("%s= is for the ssh program: transport='paramiko' has no such thing" % option)
    return _plan(host, user, port, python, connect_timeout, name, Access(
        identity_file=_path(identity_file, "identity_file"), keys=_keys(key),
        certificate_file=_path(certificate_file, "certificate_file"),
        password=checked_secret(password, "password"), passphrase=checked_secret(passphrase, "passphrase"),
        otp=otp if otp is None or callable(otp) else checked_secret(otp, "otp"),
        ssh_config=_path(ssh_config, "ssh_config"), jump=None if jump is None else jumps(jump), host_keys=host_keys,
        known_hosts=_path(known_hosts, "known_hosts"), keepalive=keepalive, keepalive_count=keepalive_count,
        compression=bool(compression)))


def _plan(host: str, user: "Optional[str]", port: "Union[None, int, str]", python: "Union[None, str, Sequence[str]]",
          connect_timeout: "Union[float, Dict[str, float]]", name: "Optional[str]", access: "Access") -> "Plan":
    access.user, access.host = ssh.split_host(host, user)
    access.port = None if port is None else int(ssh._port(port))
    if access.host_keys not in ssh.HOST_KEYS:
        raise UsageError("host_keys=%r: it is one of %s" % (
            access.host_keys, ", ".join(map(repr, sorted(ssh.HOST_KEYS)))))
    silence = ssh._count(access.keepalive, "keepalive") * (ssh._count(access.keepalive_count, "keepalive_count") + 1)
    found = python_words(python) or WORDS
    quote(found, tilde=True)                                # now rather than when it is started
    phases = checked_phases(connect_timeout)
    access.patience = sum(phases.values())
    warnings = (["the host key of %s is not checked (host_keys='off')" % access.host]
                if access.host_keys == "off" else ())
    return Plan([PYTHON_QUOTED], checked_name(name, ssh._default_name(access.host, access.port)), "ssh", python=found,
                remote=True, phases=phases, warnings=warnings, classify=classify, silence=silence, transport=access)


def _path(path: "Optional[StrPath]", what: str) -> "Optional[str]":
    return None if path is None else ssh._path(path, what)


def _keys(key: "Any") -> "Tuple[Any, ...]":
    keys = () if key is None else tuple(key) if isinstance(key, (list, tuple)) else (key,)
    for each in keys:
        if not callable(getattr(each, "sign_ssh_data", None)):
            raise UsageError("key= wants a paramiko.PKey, or a list of them, not %s" % type(each).__name__)
    return keys


def jumps(jump: "Union[str, Sequence[str]]") -> "List[Tuple[Optional[str], str, Optional[int]]]":
    """The hosts of a ``jump=`` argument, or of ProxyJump: [(user, host, port)]; none for "none". UsageError."""
    hops = jump.split(",") if isinstance(jump, str) else list(jump)
    if hops == ["none"]:
        return []
    out = []  # type: List[Tuple[Optional[str], str, Optional[int]]]
    for hop in hops:
        match = re.fullmatch(r"(?:ssh://)?(?:(.*)@)?(\[[^\]]*\]|[^:]*|.*:.*:.*?)(?::([0-9]+))?/?", hop.strip(),
                             re.DOTALL)
        if not match:
            raise UsageError("jump=%r: it is [user@]host[:port], or a list of them" % (hop,))
        user, host = ssh.split_host(match.group(2), match.group(1))
        out.append((user, host, None if match.group(3) is None else int(ssh._port(match.group(3)))))
    if not out:
        raise UsageError("jump= is empty; give None for no jump")
    return out


# -- what the host asks

_PLAIN = rb"(?i:(?:enter )?(?:your )?" + PASSWORD + rb"(?: for [\w.@\\:-]+)? ?:? ?)"
_BOTH = rb"(?:&|\+|\band\b|\bund\b)"


class Answers:
    """What is answered to the questions of one login, which are told apart as in ``ssh_dialogue``. A secret is given
    out once: the same question again means that it was refused."""

    def __init__(self, password: "Optional[Secret]", otp: "Union[None, Secret, Callable[[], str]]") -> None:
        self.secrets = {"password": password, "otp": otp}  # type: Dict[str, Any]
        self.used = set()  # type: Set[str]

    def wanted(self, question: str) -> "List[str]":
        """Names of the secrets that a question wants, in a row. Refused where it gets none."""
        text = question.strip().splitlines()[-1].strip() if question.strip() else ""
        shown = "".join(char if char.isprintable() else "?" for char in text)[:200]
        raw = text.encode("utf-8", "surrogateescape")[:2000]

        def has(*words: bytes) -> bool:
            return all(re.search(b"(?i:%s)" % word, raw) for word in words)

        if re.fullmatch(_PLAIN, raw):
            names = ["password"]
        elif has(PASSWORD, NEW):
            raise Refused("the password has expired and must be changed first: " + shown)
        elif has(PASSWORD, CODE, _BOTH):
            names = ["password", "otp"]
        elif has(CODE):
            names = ["otp"]
        elif has(PASSWORD):
            names = ["password"]
        elif self.secrets["otp"] is not None:
            names = ["otp"]
        else:
            raise Refused("it asks what cannot be answered here: " + shown)
        for name in names:
            what = "password" if name == "password" else "one-time code"
            if self.secrets[name] is None:
                raise Refused("the host asks for a %s, and %s= was not given: %s" % (what, name, shown))
            if name in self.used:
                raise Refused("the %s was refused: %s" % (what, shown))
        return names

    def take(self, name: str) -> str:
        """The secret, once. A callable is asked now; Refused where it fails."""
        self.used.add(name)
        secret = self.secrets[name]  # type: Any
        if callable(secret):
            ask = secret  # type: Any
            try:
                secret = checked_secret(ask(), "otp")
            except Exception as error:
                raise Refused("otp= was called and raised %s: %s" % (type(error).__name__, error)) from None
        if not isinstance(secret, Secret):
            raise Refused("otp= was called and gave %s; a str was wanted" % type(secret).__name__)
        return secret.reveal()


class Refused(Exception):
    """The login goes no further, for the reason given."""


# -- why it failed

def classify(method: str, status: "Optional[int]", output: str) -> "Tuple[str, str, str]":
    """Why the command there ended before HELLO, or the connection did: (error class name, message, phase)."""
    if status is not None and status < 0:
        return "ConnectError", "the command on the host %s before it said hello" % how_it_ended(status), "boot"
    if status is None:
        return "ConnectError", "the connection was lost before the interpreter said hello%s" % last_line(output), "boot"
    if status == 255:  # of the command itself; in ssh's words it would be a failure of ssh
        return "ConnectError", "the command on the host ended with status 255 before it said hello%s" % (
            last_line(output)), "boot"
    return ssh_errors.classify(method, status, output)
