"""Addresses: how a context is reached, as text. ``ssh://deploy@web1:2222/sudo:root/docker:app?user=www``

    address  =  hop *( "/" hop )
    hop      =  method [ ":" target ] [ "?" option *( "&" option ) ]
             |  "ssh://" [ user "@" ] host [ ":" port ] [ "?" ... ]          (the two slashes may be left out)
    option   =  name "=" value            the keyword argument ``name`` of the method, of the type that it has there
             |  name "." key "=" value    one entry of an argument that is a dict: ``env.LANG=C``

A slash ends a hop. It is part of it in a *path* alone: the target of ``local``, ``chroot`` and ``nspawn``, and the
value of an option, where they begin with ``/``, ``~/``, ``./`` or ``../``. A path goes on to the next ``?`` or ``&``,
or to a slash with a method's name and a colon behind it: ``chroot:/srv/www/sudo:root`` is two hops. A path that ends
in a method's name, ``chroot:/srv/sudo``, may be meant either way and is refused: ``/sudo:`` is the hop, ``%2Fsudo`` the
path. What would be taken for something else is written ``%2F`` and so on, as in URLs; ``%`` itself is ``%25``. An IPv6
address stands in brackets. In a list of addresses each element is one hop, and no slash in it ends it.

Nothing secret belongs in an address: it would be seen in lists of processes, in histories and logs. So a password in
one is refused, and no message shows what looks like one.

Pure. Typing an option needs the method's own module, and no other, which is imported then.
"""

import re
from collections import namedtuple
from importlib import import_module

from contextree.core.wire.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Mapping, NamedTuple, NoReturn, Optional, Sequence, Tuple, Union

    _Hop = NamedTuple("_Hop", [("method", str), ("target", str), ("options", Tuple[Tuple[str, str], ...])])
else:
    _Hop = namedtuple("Hop", "method target options")

HOST, PATH, NAME, NOTHING = "a host", "a path", "a name", "nothing"

#: Every method: what its target is, and the target where none is given (None: there has to be one).
METHODS = {
    "fork": (NOTHING, ""), "local": (PATH, ""), "ssh": (HOST, None),
    "sudo": (NAME, "root"), "su": (NAME, "root"), "doas": (NAME, "root"), "runuser": (NAME, None),
    "docker": (NAME, None), "podman": (NAME, None), "buildah": (NAME, None), "kubectl": (NAME, None),
    "lxc": (NAME, None), "lxd": (NAME, None), "incus": (NAME, None), "machinectl": (NAME, ".host"),
    "nspawn": (PATH, None), "chroot": (PATH, None), "setns": (NAME, None), "jail": (NAME, None),
}  # type: Dict[str, Tuple[str, Optional[str]]]

#: Options that say which target it is, rather than how it is reached: those that ``written`` shows.
WHICH = ("user", "port", "namespace", "context", "container", "project", "remote", "connection", "kind", "machine")

#: Names of options that are secret: in no address.
SECRET = re.compile("(?i)pass|secret|token|otp|pin$")
_A_PATH = re.compile(r"(?:~|\.\.?)?/")
_NEXT = re.compile("/(?:%s):" % "|".join(sorted(METHODS, key=len, reverse=True)))
_ESCAPE = re.compile("%([0-9A-Fa-f]{2})?")
_UNSAFE = re.compile(r"[^\w.~@+=-]")
_FREE = {"fork": {"name": "str", "direct": "bool"}}  # methods without a plan of their own
_MORE = {"ssh": {"transport": "str", "certificate_file": "str"}}  # options of other plans of the same method
_COMMON = {"threads": "int", "log_level": "int"}  # of all methods
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Hop(_Hop):
    """One step of an address: ``method``, ``target``, ``options``, pairs of name and text. For ``ssh`` user and port
    are options. Immutable, hashable; ``str()`` is its address, in one form for all ways to write it."""

    __slots__ = ()

    def __str__(self) -> str:
        options = dict(self.options)
        kind = METHODS[self.method][0]
        if kind == HOST:
            host = "[%s]" % _escaped(self.target, ":") if ":" in self.target else _escaped(self.target)
            host = host.replace("@", "%40")
            text = "ssh://%s%s%s" % (_escaped(options.pop("user")) + "@" if "user" in options else "", host,
                                     ":" + options.pop("port") if "port" in options else "")
        else:
            text = "%s:%s" % (self.method, _path(self.target, ":") if kind == PATH else _escaped(self.target, ":"))
        rest = ["%s=%s" % (_escaped(name), _path(value, "")) for name, value in self.options if name in options]
        return text + ("?" + "&".join(rest) if rest else "")

    def covers(self, other: "Hop") -> bool:
        """Whether this says no more than ``other`` does: the same target, and no option that is not the other's."""
        return self[:2] == other[:2] and set(self.options) <= set(other.options)

    def arguments(self) -> "Tuple[Tuple[Any, ...], Dict[str, Any]]":
        """What to call the method with: (positional, keyword arguments). Raises UsageError for an option that the
        method does not have, and for a value that is not of its type."""
        plan, known = signature(self.method)
        options = {}  # type: Dict[str, Any]
        for name, text in self.options:
            _take(options, name, text, known, self)
        if self.method == "local" and self.target:
            options.setdefault("python", [self.target])
        if plan is None or self.method == "local":
            return (), options
        first = plan.__code__.co_varnames[0]
        number = "int" in _types(plan.__annotations__.get(first)) and self.target.isdigit()
        return (int(self.target) if number else self.target,), options


# -- from text

def parse(address: "Union[str, Hop, Sequence[Union[str, Hop]]]") -> "List[Hop]":
    """The hops of an address: of a str, or of a list with one hop in each element. Raises UsageError. Any thread."""
    if isinstance(address, str):
        return _parse(address, False)
    hops = []  # type: List[Hop]
    for part in [address] if isinstance(address, Hop) else address:
        if isinstance(part, Hop):
            hops.append(part)
        elif isinstance(part, str):
            hops += _parse(part, True)
        else:
            raise UsageError("an address is a str or a list of str, one for each hop, and has no %s in it"
                             % type(part).__name__)
    if not hops:
        raise UsageError("the address is an empty list; wanted something like ['ssh://web1', 'sudo:root']")
    return hops


def _parse(text: str, alone: bool) -> "List[Hop]":
    """The hops of a str; ``alone``: it is one hop, slashes end nothing."""
    hops = []
    at = 0
    while True:
        hop, at = _Reader(text, at, alone).hop()
        hops.append(hop)
        if at == len(text):
            return hops
        at += 1  # the slash


class _Reader:
    """Reads one hop of ``text`` from position ``at``."""

    def __init__(self, text: str, at: int, alone: bool) -> None:
        self.text = text
        self.at = at
        self.alone = alone

    def fail(self, message: str, at: "Optional[int]" = None) -> "NoReturn":
        raise UsageError("%s (in the address %s, at character %d)"
                         % (message, shown(self.text), (self.at if at is None else at) + 1))

    def hop(self) -> "Tuple[Hop, int]":
        text, start = self.text, self.at
        method = self.method()
        kind, default = METHODS[method]
        target = ""
        options = []  # type: List[Tuple[str, str]]
        if text.startswith(":", self.at):
            self.at += 1
            if kind == HOST:
                target, options = self.host()
            else:
                target = self.target(method, kind)
        if not target:
            if default is None:
                self.fail("%s wants %s behind it, as in %s" % (method, kind, _example(method, kind)), start)
            target = default
        if text.startswith("?", self.at):
            self.query(method, options)
        if self.alone and self.at < len(text):
            self.fail("%s is not part of one hop: in a list each element is one" % shown(text[self.at:]))
        return Hop(method, target, tuple(sorted(options, key=lambda option: option[0]))), self.at

    def method(self) -> str:
        found = re.compile("[^:/?]*").match(self.text, self.at).group()  # type: ignore[union-attr]  # it may be empty
        if found in METHODS:
            self.at += len(found)
            return found
        if not found:
            what = "nothing" if self.at == len(self.text) else repr(self.text[self.at])
            self.fail("found %s where a method should begin, such as ssh or sudo%s"
                      % (what, ": there is one slash too many" if self.at else ""))
        if "@" in self.text[self.at:].partition("/")[0]:
            self.fail("what begins here is no method; a host is ssh://user@host")
        self.fail("there is no method %r%s" % (found[:40], _advice(found, self.at, self.text)))
        return ""

    def piece(self, stops: str, path: bool) -> str:
        """Read up to one of ``stops`` or to the slash that ends the hop; as it is written."""
        text, end = self.text, self.at
        path = path and _A_PATH.match(text, end) is not None
        while end < len(text) and text[end] not in stops:
            if text[end] == "/" and not self.alone and (not path or _NEXT.match(text, end)):
                break
            end += 1
        start, found, self.at = self.at, text[self.at:end], end
        front, _, last = found.rpartition("/")
        if path and last in METHODS and not self.alone:
            self.fail("found '/%s' behind %r, which may be a hop or part of the path: write /%s: for a hop, %%2F%s for "
                      "a path, or a list with a hop in each element" % (last, front, last, last), start + len(front))
        return found

    def host(self) -> "Tuple[str, List[Tuple[str, str]]]":
        start = self.at = self.at + (2 if self.text.startswith("//", self.at) else 0)
        login, found, host = self.piece("?", False).rpartition("@")
        options = []
        if found:
            if ":" in login:
                self.secret("ssh", start + login.index(":") + 1)
            if not login:
                self.fail("found '@' where the user's name should be", start)
            options.append(("user", self.decoded(login, start)))
            start += len(login) + 1
        if "/" in host:
            self.fail("a host has no slash in it: in a list each element is one hop", start + host.index("/"))
        match = re.match(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(.*))?$", host, re.DOTALL)
        if match is None:
            self.fail("found %r, wanted a host, or [an IPv6 address], and maybe :port" % host, start)
        name, port = match.groups()
        if port is not None:
            if not (port.isdigit() and 0 < int(port) < 65536):
                if "@" in self.text[self.at:]:
                    self.secret("ssh", start)
                self.fail("what is behind the host is no port: wanted a number from 1 to 65535", start + len(name) + 1)
            options.append(("port", port))
        return self.decoded(name, start).strip("[]"), options

    def target(self, method: str, kind: str) -> str:
        start = self.at
        if self.text.startswith("//", start) and not (kind == PATH and self.alone):
            self.fail("found '//', which only ssh has behind it; wanted %s" % _example(method, kind))
        found = self.piece("?", kind == PATH)
        login, at, _ = found.partition("@")
        if at and ":" in login and kind != PATH:
            self.secret(method, start + login.index(":") + 1)
        if kind == NOTHING and found:
            self.fail("%s has nothing behind it but options" % method, start)
        return self.decoded(found, start)

    def query(self, method: str, options: "List[Tuple[str, str]]") -> None:
        while self.text.startswith(("?", "&"), self.at):
            self.at += 1
            start = self.at
            name = self.decoded(self.piece("=&?", False), start)
            if not self.text.startswith("=", self.at):
                self.fail("found %r, wanted an option as in %s?name=value" % (name[:40], method), start)
            if SECRET.search(name):
                self.secret(method, start)
            known = signature(method)[1]
            if name.partition(".")[0] not in known:
                self.fail("%s has no option %r%s" % (method, name, _near(name, known)), start)
            if name in ("user", "port") and name in dict(options):
                self.fail("the %s is given twice" % name, start)
            self.at += 1
            start = self.at
            options.append((name, self.decoded(self.piece("&?", True), start)))

    def decoded(self, piece: str, start: int) -> str:
        for match in _ESCAPE.finditer(piece):
            if match.group(1) is None:
                self.fail("found a '%' that is not one of %XX; itself it is written %25", start + match.start())
        try:
            found = _unescaped(piece)
        except UnicodeDecodeError:
            return self.fail("what is written with %XX here is no UTF-8", start)
        if re.search("[\0-\x1f\x7f]", found):
            self.fail("there is a control character", start)
        return found

    def secret(self, method: str, at: int) -> "NoReturn":
        self.fail("an address holds no password: it would be seen in lists of processes, in histories and logs. Give "
                  "it by options={%r: {'password': ...}}, or as a function there that asks for it" % method, at)


def _path(text: str, also: str) -> str:
    """``text`` where a path may stand: its slashes are free, but for one that would look like that before a hop."""
    if not _A_PATH.match(text):
        return _escaped(text, also)
    front, _, last = text.rpartition("/")
    return _escaped(front, "/") + "%2F" + last if last in METHODS else _escaped(text, "/")


def shown(text: str) -> str:
    """An address for a message: without what may be a secret, rather too little than too much."""
    text = re.sub(r"((?:^|/)[a-z]*:(?://)?[^/@:?]*):.*@", r"\1:********@", text, flags=re.DOTALL)
    text = re.sub(r"(?i)(\w*(?:pass|secret|token|otp|pin)\w*=)[^&]*", r"\1********", text)
    return repr(text if len(text) < 200 else text[:200] + "...")


def _advice(found: str, at: int, text: str) -> str:
    near = _near(found, METHODS)
    if near.startswith("; did") or not re.match(r"[\w.-]+$", found):
        return near
    if at:
        return "; a slash begins a new hop, one within a name is written %2F"
    return "; a host is written ssh://" + found


def _near(word: str, known: "Any") -> str:
    from difflib import get_close_matches

    found = get_close_matches(word.lower(), list(known), 2, 0.6)
    return "; did you mean %s?" % " or ".join(found) if found else "; there are %s" % ", ".join(sorted(known))


def _example(method: str, kind: str) -> str:
    return {HOST: "ssh://web1", PATH: method + ":/srv/tree", NAME: method + ":name"}.get(kind, method)


# -- types of options

def signature(method: str) -> "Tuple[Any, Dict[str, str]]":
    """(the method's ``plan`` or None, {option: the text of its type}) of a method. Imports its module."""
    if method in _FREE:
        return None, dict(_FREE[method], **_COMMON)
    plan = import_module("contextree.connect." + method).plan  # type: Callable[..., Any]
    code = plan.__code__
    names = code.co_varnames[0 if method == "local" else 1:code.co_argcount + code.co_kwonlyargcount]
    known = {name: str(plan.__annotations__.get(name, "str")) for name in names}
    known = {name: kind for name, kind in known.items() if not {"object", "Callable"} & set(_types(kind))}  # no text
    known.update(_MORE.get(method, {}))
    return plan, dict({name: kind for name, kind in known.items() if not SECRET.search(name)}, **_COMMON)


def _types(annotation: object) -> "List[str]":
    return re.findall(r"\w+", annotation.__name__ if isinstance(annotation, type) else str(annotation))


def _take(options: "Dict[str, Any]", name: str, text: str, known: "Mapping[str, str]", hop: Hop) -> None:
    """Put one option of an address into ``options``."""
    name, dot, key = name.partition(".")
    if name not in known:
        raise UsageError("%s has no option %r%s" % (hop.method, name, _near(name, known)))
    types = _types(known[name])
    if dot:
        if not {"Dict", "Mapping", "dict"} & set(types):
            raise UsageError("%s: %s.%s= is for an option that is a dict, and %s is none" % (hop, name, key, name))
        kinds = types[[kind in ("Dict", "Mapping", "dict") for kind in types].index(True) + 2:]
        options.setdefault(name, {})[key] = _value(text, kinds, name + "." + key, hop)
        return
    many = {"Sequence", "List", "Iterable", "list"} & set(types)
    if "bool" in types and text.lower() in _WORDS and name not in options:
        many = set()
    if many and (name in options or not _also_one(types)):
        before = options.get(name, [])
        options[name] = (before if isinstance(before, list) else [before]) + [text]
        return
    if name in options:
        raise UsageError("%s: %s= is given twice" % (hop, name))
    options[name] = _value(text, types, name, hop)


def _also_one(types: "List[str]") -> bool:
    """Whether a type of a list is a type of a str, too: ``Union[str, Sequence[str]]``."""
    return types[0] in ("Union", "Optional") and types.count("str") > 1


def _value(text: str, types: "List[str]", name: str, hop: Hop) -> "Any":
    if "bool" in types:
        if text.lower() in _WORDS:
            return _WORDS[text.lower()]
        raise UsageError("%s: %s= wants true or false, not %r" % (hop, name, text))
    for kind in (int, float):
        if kind.__name__ in types:
            try:
                return kind(text)
            except ValueError:
                pass
    single = types[:types.index("Dict")] if "Dict" in types else types
    if {"int", "float"} & set(single) and not {"str", "StrPath"} & set(single):
        raise UsageError("%s: %s= wants a number, not %r" % (hop, name, text))
    return text


# -- to text

def written(method: str, target: object, options: "Mapping[str, Any]") -> str:
    """The address of what a method was called for: its target, and those of its options that say which that is. For
    people and for ``tree()``; never a secret, for none of ``WHICH`` is one."""
    which = []
    method, _, transport = method.partition("_")  # ssh_paramiko
    target = str(target)
    if METHODS[method][0] == HOST:
        login, at, target = target.rpartition("@")
        target = target.strip("[]")
        if at:
            which.append(("user", login))
    which += [(name, str(options[name])) for name in WHICH
              if isinstance(options.get(name), (str, int)) and name not in dict(which)]
    if transport:
        which.append(("transport", transport))
    return str(Hop(method, target, tuple(which)))


def _escaped(text: str, also: str = "") -> str:
    """``text`` with all but letters, digits and a few signs (and those in ``also``) as %XX."""
    return _UNSAFE.sub(lambda match: match.group() if match.group() in also else "".join(
        "%%%02X" % byte for byte in match.group().encode("utf-8", "surrogateescape")), text)


def _unescaped(text: str) -> str:
    data = text.encode("utf-8", "surrogateescape")
    return re.sub(b"%(..)", lambda match: bytes((int(match.group(1), 16),)), data).decode("utf-8")
