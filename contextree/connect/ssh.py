"""A host by the system's ``ssh``, so that ssh_config, agents, jumps and known_hosts mean what they mean to the user.

What we insist on, on the command line, where ssh takes the first value it meets (so neither ssh_config nor
``extra_args`` can undo it silently):

* the host key is checked strictly, unless the caller says otherwise here;
* no agent, X11 or port forwarding, no local command, no connection sharing unless asked;
* stdin and stdout are a clean pipe: no terminal there (-T), and nothing else is written to them;
* without a secret ssh never asks (BatchMode); with one it asks on a terminal of ours, and only a prompt that names the
  user and the host gets it, once (``contextree.connect.ssh_dialogue``). Secrets are in no argument, environment
  variable or file;
* a dead connection is noticed by ServerAlive, during the key exchange too, where ConnectTimeout does not count; the
  other end notices by ``contextree.parent.linkwatch``.

``jump=`` starts ssh for each hop by ProxyCommand, with the same insistence and BatchMode: -J would start it with what
ssh_config says, checks switched off included. A ProxyJump of ssh_config itself is started so, by ssh: it can ask
nobody (its questions end the login), but a check that ssh_config switches off for the jump host is off.

HostName, User and Port of ssh_config count unless they are given. A prompt shows the names that ssh found, so
``Plan.probe`` (``ssh -G``) tells them to the dialogue; without it the names as given are expected. It tells too where
the control socket is, which somebody else must not have put there: ssh itself does not look.

Why it failed is told by ``contextree.connect.ssh_errors``.
"""

import re

from contextree.connect import checked, ssh_errors
from contextree.connect.discover import WORDS
from contextree.connect.plan import (
    PYTHON_QUOTED,
    Plan,
    checked_name,
    checked_phases,
    checked_secret,
    python_words,
)
from contextree.connect.quote import quote
from contextree.connect.ssh_dialogue import SshDialogue, control_sockets
from contextree.core.wire.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, List, Optional, Sequence, Tuple, Union

    from _typeshed import StrPath

    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.ssh`` takes beside the host: what ``plan`` does."""

        user: Optional[str]
        port: Union[None, int, str]
        identity_file: Optional[StrPath]
        password: Optional[str]
        passphrase: Optional[str]
        otp: Union[None, str, Callable[[], str]]
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
        certificate_file: Optional[StrPath]
        transport: Optional[str]
        key: object  # of paramiko, or a list of them

#: ``control_path``: the control socket that ssh_config names.
CONFIG = "config"
classify = ssh_errors.classify
HOST_KEYS = {"strict": "yes", "accept-new": "accept-new", "off": "no"}

# What may stand in ssh_config's ProxyCommand as %h and %r, which a shell reads, must mean nothing there.
_BAD = re.compile(r"""[\s\x00-\x1f\x7f-\x9f'"`$;&<>|(){}*?!#,/]""")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[\w.-]+)?")


def plan(host: str, user: "Optional[str]" = None, port: "Union[None, int, str]" = None,
         identity_file: "Optional[StrPath]" = None, password: "Optional[str]" = None,
         passphrase: "Optional[str]" = None, otp: "Union[None, str, Callable[[], str]]" = None,
         python: "Union[None, str, Sequence[str]]" = None,
         ssh_config: "Optional[StrPath]" = None, jump: "Union[None, str, Sequence[str]]" = None,
         host_keys: str = "strict", known_hosts: "Optional[StrPath]" = None,
         extra_args: "Sequence[str]" = (), ssh: "Union[str, Sequence[str]]" = "ssh",
         connect_timeout: "Union[float, Dict[str, float]]" = 30, keepalive: int = 1, keepalive_count: int = 3,
         compression: bool = False, forward_agent: bool = False,
         control_path: "Optional[StrPath]" = None, plain_prompts: bool = False,
         certificate_file: "Optional[StrPath]" = None, transport: "Optional[str]" = None, key: object = None,
         name: "Optional[str]" = None) -> Plan:
    """A Plan for an interpreter on `host`.

    host             a name, an alias of ssh_config, an address (IPv6 with or without brackets), or ``user@host``.
    user, port       as for ssh -l and -p; None leaves them to ssh_config.
    identity_file    path of a private key; then no other key is offered than this and those that ssh_config names.
    password         for the account; passphrase: for the key file. str or Secret.
    otp              one-time code, for any question of the host that does not ask for a password: str, Secret, or a
                     function without arguments, which is called when the host has asked (phase login goes on), on a
                     thread of its own. Where another context starts ssh it is called here, before: only the code goes.
    python           the interpreter there: str, split as a shell would, or list of words. A leading ``~/`` is home.
                     None: the first one found, see ``contextree.connect.discover``.
    ssh_config       path of the configuration to use instead of the user's and the system's (ssh -F).
    jump             ``[user@]host[:port]``, a list of them, or "none" to ignore ssh_config's ProxyJump and
                     ProxyCommand. They log in by what ssh_config and the agent have: no secret, key or user given here
                     is for them.
    host_keys        "strict": it must be known. "accept-new": a new one is stored, a changed one refused; that of
                     ``jump`` too. "off": not checked, that of ``jump`` is; the plan says so in ``warnings``.
    known_hosts      path of the file to use instead of the user's and the system's, for ``jump`` too.
    extra_args       further options for ssh, as words. What is set here already cannot be changed by them.
    ssh              the program: a path, or several words.
    connect_timeout  seconds for each phase, or a dict with some of "connect", "login", "boot".
    keepalive        seconds without a word from the other end until ssh asks; after keepalive_count questions
                     without an answer it gives up. So a link that is silent for 4 s is dead, at both ends: raise these
                     for links that are worse. A host that is merely busy or stopped still answers.
    control_path     share a connection: path of a control socket, which is made if there is none; or "config": go
                     through the master at the ControlPath of ssh_config if one runs, and never become one. The folder
                     must be the user's alone, and the socket the user's own; anything else is refused.
    plain_prompts    let ``Password:`` without a host's name have the password. OpenSSH before 8.5 asks so for
                     keyboard-interactive; it cannot be told from a jump host that asks.
    certificate_file path of a certificate for the key, beside those that stand at their keys or in ssh_config.
    transport        "paramiko": no ssh program, see ``contextree.connect.ssh_paramiko``. None: "openssh".
    key              for paramiko: a private key as its object, or a list of them.
    name             the context's name, ``ssh.HOST`` if not given.

    Raises UsageError for what cannot be passed on safely. Any thread.
    """
    given = dict(locals())
    if given.pop("transport") == "paramiko":
        from contextree.connect import ssh_paramiko

        return ssh_paramiko.plan(**given)
    if transport not in (None, "openssh"):
        raise UsageError("transport=%r: it is one of 'openssh', 'paramiko'" % (transport,))
    if key is not None:
        raise UsageError("key= is for transport='paramiko'; the ssh program takes identity_file=")
    user, host = split_host(host, user)
    secrets = {"password": checked_secret(password, "password"), "passphrase": checked_secret(passphrase, "passphrase"),
               "otp": otp if callable(otp) else checked_secret(otp, "otp")}
    python, phases = python_words(python) or WORDS, checked_phases(connect_timeout)
    quote(python, tilde=True)                                # now rather than when it is started
    asks = any(secrets.values())
    if host_keys not in HOST_KEYS:
        raise UsageError("host_keys=%r: it is one of %s" % (host_keys, ", ".join(map(repr, sorted(HOST_KEYS)))))
    alive = [
        "LogLevel=ERROR",
        "RemoteCommand=none",
        "ConnectTimeout=%d" % max(1, round(phases["connect"])),
        "ServerAliveInterval=%d" % _count(keepalive, "keepalive"),
        "ServerAliveCountMax=%d" % _count(keepalive_count, "keepalive_count")]
    program = _program(ssh) + ([] if ssh_config is None else ["-F", _path(ssh_config, "ssh_config")])
    options = _security(asks, host_keys, known_hosts, forward_agent) + _sharing(control_path) + alive + [
        "Compression=%s" % ("yes" if compression else "no")]
    env = {"SSH_ASKPASS_REQUIRE": "never"}  # type: Dict[str, Optional[str]]
    if jump is not None and (jump == "none" or list(jump) == ["none"]):
        options.append("ProxyCommand=none")                  # ProxyJump too
    elif jump is not None:
        env["SHELL"] = "/bin/sh"                             # it reads the ProxyCommand
        strict = host_keys if host_keys != "off" else "strict"
        options += ["ProxyUseFdpass=no", "ProxyCommand=" + _proxy(_hops(jump), program + _words(
            _security(False, strict, known_hosts, False) + _sharing(None) + alive))]
    argv = program + ["-T", "-A" if forward_agent else "-a", "-x"] + _words(options)
    if user is not None:
        argv += ["-l", user]
    if port is not None:
        argv += ["-p", str(_port(port))]
    if identity_file is not None:
        argv += ["-o", "IdentitiesOnly=yes", "-i", _percent(_path(identity_file, "identity_file"))]
    if certificate_file is not None:
        argv += ["-o", "CertificateFile=" + _quoted(_percent(_path(certificate_file, "certificate_file")))]
    argv += _extra(extra_args)
    dialogue = SshDialogue(user, host, identity_file, plain_prompts, secrets) if asks else None
    warnings = ["the host key of %s is not checked (host_keys='off')" % host] if host_keys == "off" else ()
    return Plan(argv + ["--", host, PYTHON_QUOTED], checked_name(name, _default_name(host, port)), "ssh", tty=asks,
                dialogue=dialogue, env=env, python=python, remote=True, phases=phases,
                probe=argv + ["-G", "--", host] if asks or control_path is not None else None, warnings=warnings,
                classify=classify, silence=keepalive * (keepalive_count + 1),
                sockets=control_sockets if control_path is not None else None)


def _security(asks: bool, host_keys: str, known_hosts: "Optional[StrPath]", forward_agent: bool) -> "List[str]":
    options = ["StrictHostKeyChecking=" + HOST_KEYS[host_keys], "NoHostAuthenticationForLocalhost=no",
               "BatchMode=" + ("no" if asks else "yes")]
    if known_hosts is not None or host_keys == "off":
        files = "/dev/null" if known_hosts is None else _quoted(_percent(_path(known_hosts, "known_hosts")))
        options += ["UserKnownHostsFile=" + files, "GlobalKnownHostsFile=/dev/null"]
    if asks:
        options += ["NumberOfPasswordPrompts=1"]
    return options + ["ForwardAgent=" + ("yes" if forward_agent else "no"), "ForwardX11=no", "ClearAllForwardings=yes",
                      "Tunnel=no", "PermitLocalCommand=no"]


def _sharing(control_path: "Optional[StrPath]") -> "List[str]":
    if control_path is None:
        return ["ControlMaster=no", "ControlPath=none"]
    if control_path == CONFIG:
        return ["ControlMaster=no"]
    return ["ControlMaster=auto", "ControlPersist=no", "ControlPath=" + _quoted(_path(control_path, "control_path"))]


def _words(options: "Sequence[str]") -> "List[str]":
    return [word for option in options for word in ("-o", option)]


def _proxy(hops: "Sequence[Tuple[Optional[str], str, Optional[str]]]", ssh: "List[str]") -> str:
    """The ProxyCommand that goes through these hops, the first one first: a line for /bin/sh in which ssh fills in
    ``%h`` and ``%p``; what is not for ssh to fill in has its percent signs doubled."""
    user, host, port = hops[-1]
    words = list(ssh)
    if len(hops) > 1:
        words += ["-o", "ProxyCommand=" + _proxy(hops[:-1], ssh)]
    if user is not None:
        words += ["-l", user]
    if port is not None:
        words += ["-p", port]
    before, after = (" ".join(map(_shell_word, part)).replace("%", "%%") for part in (words, ["--", host]))
    return before + " -W '[%h]:%p' " + after                  # zsh would look for files named [...]


def _shell_word(word: str) -> str:
    return word if re.fullmatch("[A-Za-z0-9_./:=@-]+", word) else "'%s'" % word.replace("'", "'\\''")


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


def _path(path: "StrPath", what: str) -> str:
    if not isinstance(path, str):
        path = path.__fspath__() if hasattr(path, "__fspath__") else path
    path = checked.text(path, what)
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
    for word, following in zip(words, words[1:] + [""]):
        # they would stand before ours, and so win
        if re.match("-o *[A-Za-z]{3,}[ =]", word + following if word == "-o" else word):
            raise UsageError("ssh=%r has options in it; give them by extra_args=" % (ssh,))
    return [checked.text(word, "ssh") for word in words]


_LETTERS = "1246aCgKkqTvxy"                                   # options of ssh that may stand alone
_WITH_VALUE = "BbcDEeFIiJLlmOoPpQRSWw"
_REFUSED = {"A": "forward_agent=True forwards the agent", "J": "jumps are given by jump=",
            "M": "a connection is shared by control_path=", "S": "a connection is shared by control_path="}
_REFUSED.update(dict.fromkeys("LRDwXY", "nothing is forwarded here"))
_REFUSED.update(dict.fromkeys("fNnsGVtOQW", "with it ssh would not run Python with a clean pipe to it"))


def _extra(words: "Sequence[str]") -> "List[str]":
    """``extra_args=`` as a list: options, as ssh reads them, and nothing that it would take for the host."""
    if isinstance(words, str):
        raise UsageError("extra_args= wants a list of words, not the str %r" % words)
    out = [checked.text(word, "extra_args") for word in words]
    rest = iter(out)
    for word in rest:
        if not re.fullmatch("-[^-].*", word):
            raise UsageError("extra_args=: %r is no option of ssh; give words such as '-o', 'X=Y'" % word)
        for place, letter in enumerate(word[1:], 2):
            if letter in _REFUSED:
                raise UsageError("extra_args=: %r cannot be given: %s" % (word, _REFUSED[letter]))
            if letter in _WITH_VALUE:
                if not word[place:] and next(rest, None) is None:
                    raise UsageError("extra_args=: the value of %r is missing" % word)
                break
            if letter not in _LETTERS:
                raise UsageError("extra_args=: ssh has no option '-%s'" % letter)
    return out


def _hops(jump: "Union[str, Sequence[str]]") -> "List[Tuple[Optional[str], str, Optional[str]]]":
    """(user, host, port) of each hop; None is for ssh_config to say."""
    out = []
    for hop in jump.split(",") if isinstance(jump, str) else jump:
        match = re.fullmatch(r"(?:(.*)@)?(\[[^\]]*\]|[^:]*|.*:.*:.*?)(?::([0-9]+))?", hop, re.DOTALL)
        if not match:
            raise UsageError("jump=%r: it is [user@]host[:port], or a list of them" % (hop,))
        user, host = split_host(match.group(2), match.group(1))
        out.append((user, host, None if match.group(3) is None else str(_port(match.group(3)))))
    if not out:
        raise UsageError("jump= is empty; give None for no jump")
    return out


def _default_name(host: str, port: "Union[None, int, str]") -> str:
    return "ssh.%s" % host if port is None or int(port) == 22 else "ssh.%s:%s" % (host, port)
