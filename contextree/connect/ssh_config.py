"""What ssh_config says of a host: for the transports that have no ``ssh`` program to ask.

Pure: who uses it reads the files. As in ssh_config(5): the first value counts, and some keywords add up; ``Host`` and
``Match`` begin a block; ``Include`` is read where it stands, and a block in an included file counts only where the
block around it does. What a ``Match`` asks that cannot be answered without running a program or looking at interfaces
is a ``ConfigError``, never a guess.
"""

import re
from fnmatch import translate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

    Row = Tuple[str, List[str], str]  # keyword in small letters, its arguments, "file line 3"

DEPTH = 16  # of files that include files
#: Keywords whose values add up.
LISTS = frozenset(("identityfile", "certificatefile", "sendenv", "setenv"))
OLD_NAMES = {"challengeresponseauthentication": "kbdinteractiveauthentication",
             "skeyauthentication": "kbdinteractiveauthentication",
             "pubkeyacceptedkeytypes": "pubkeyacceptedalgorithms", "dsaauthentication": "pubkeyauthentication"}
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'|((?:[^\s"\'\\]|\\.)+)|(\s+)')
_ESCAPE = re.compile(r"\\([\"'\\ ])")


class ConfigError(Exception):
    """A line that cannot be read, or asks for what cannot be answered here."""


def words(text: str, where: str) -> "List[str]":
    """The arguments of a line: blanks separate, quotes keep together, a '#' after a blank begins a comment."""
    out = []  # type: List[str]
    joined, pos = False, 0
    while pos < len(text):
        if text[pos] == "#" and not joined:
            break
        match = _WORD.match(text, pos)
        if not match:
            raise ConfigError("%s: a quote has no end, or a backslash nothing behind it" % where)
        pos = match.end()
        if match.group(4) is not None:
            joined = False
            continue
        part = _ESCAPE.sub(r"\1", next(group for group in match.groups() if group is not None))
        if joined:
            out[-1] += part
        else:
            out.append(part)
        joined = True
    return out


def rows(text: str, name: str) -> "List[Row]":
    """The lines of a file: (keyword, arguments, where)."""
    out = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        where = "%s line %d" % (name, number)
        match = re.match(r'"?([A-Za-z0-9]+)"?(?:\s*=\s*|\s+|$)(.*)', line)
        if not match:
            raise ConfigError("%s: %r is no keyword" % (where, line[:40]))
        key = match.group(1).lower()
        key = OLD_NAMES.get(key, key)
        if key in ("proxycommand", "localcommand", "remotecommand", "knownhostscommand"):
            out.append((key, [match.group(2).strip()], where))  # a shell reads the rest of the line
        else:
            out.append((key, words(match.group(2), where), where))
    return out


def matches(pattern: str, name: str) -> bool:
    """Does ``name`` fit a pattern with ``*`` and ``?``? Letters are compared as they are."""
    return re.match(translate(pattern.replace("[", "[[]")), name) is not None


def in_list(patterns: "Sequence[str]", name: str) -> bool:
    """Does one of them fit, and none that begins with '!'?"""
    found = False
    for pattern in patterns:
        if matches(pattern.lstrip("!"), name):
            if pattern.startswith("!"):
                return False
            found = True
    return found


class Lookup:
    """What some files say of one host.

    ``include(pattern, user)`` gives [(name, text)] of the files that an ``Include`` of a user's or the system's file
    names. ``given``: what the caller said already, which counts first: a dict such as {"user": "ann"}.
    """

    def __init__(self, host: str, local_user: str, include: "Callable[[str, bool], List[Tuple[str, str]]]",
                 given: "Optional[Mapping[str, str]]" = None) -> None:
        self.original = self.host = host
        self.local_user = local_user
        self.include = include
        self.values = {key: [value] for key, value in (given or {}).items()}  # type: Dict[str, List[str]]
        self.where = dict.fromkeys(self.values, "the caller")  # type: Dict[str, str]
        self.final = self.wants_final = False

    def read(self, files: "Sequence[Tuple[str, str, bool]]") -> None:
        """Take files: (name, text, whether it is the user's own), the user's first."""
        for self.final in (False, True):
            if self.final and not self.wants_final:
                break
            for name, text, user in files:
                self._file(name, text, user, True, 0)
            hostname = self.get("hostname")
            if hostname is not None and not self.final:
                self.host = hostname.replace("%h", self.original).replace("%%", "%")

    def get(self, key: str, default: "Optional[str]" = None) -> "Optional[str]":
        """The value of a keyword that takes one, or the default."""
        value = self.values.get(key)
        return value[0] if value else default

    def list(self, key: str) -> "List[str]":
        """All values of a keyword."""
        return self.values.get(key, [])

    # -- inside

    def _file(self, name: str, text: str, user: bool, outer: bool, depth: int) -> None:
        if depth > DEPTH:
            raise ConfigError("%s: files that include each other" % name)
        active = outer
        for key, args, where in rows(text, name):
            if key == "host":
                active = outer and in_list(args, self.original)
            elif key == "match":
                active = outer and self._match(args, where)
            elif key == "include":
                for pattern in args:  # also where this block does not count: it may have mistakes in it
                    for other, content in self.include(pattern, user):
                        self._file(other, content, user, active, depth + 1)
            elif active and args:
                self._set(key, args, where)

    def _set(self, key: str, args: "List[str]", where: str) -> None:
        if key in LISTS:
            self.values[key] = self.values.get(key, []) + [arg for arg in args if arg not in self.values.get(key, [])]
        elif key not in self.values:
            self.values[key] = args
        else:
            return
        self.where.setdefault(key, where)

    def _match(self, args: "List[str]", where: str) -> bool:
        """The criteria of one ``Match``: all must hold; what stands behind one that does not is not asked."""
        rest = [part for arg in args for part in arg.split("=", 1)] if any("=" in arg for arg in args) else list(args)
        if not rest:
            raise ConfigError("%s: Match without a criterion" % where)
        names = {"host": self._hostname, "originalhost": lambda: self.original, "localuser": lambda: self.local_user,
                 "user": lambda: self.get("user") or self.local_user,
                 "tagged": lambda: self.get("tag") or ""}  # type: Dict[str, Callable[[], str]]
        while rest:
            word = rest.pop(0).lower()
            negated, word = word.startswith("!"), word.lstrip("!")
            if word == "all":
                held = True
            elif word in ("final", "canonical"):
                self.wants_final = self.wants_final or word == "final"
                held = self.final
            elif word in names and rest:
                held = in_list(rest.pop(0).split(","), names[word]())
            else:
                raise ConfigError("%s: 'Match %s' cannot be answered here" % (where, word))
            if held == negated:
                return False
        return True

    def _hostname(self) -> str:
        if self.final:
            return self.host
        return (self.get("hostname") or self.original).replace("%h", self.original).replace("%%", "%")


def expand(text: str, tokens: "Mapping[str, str]", environ: "Mapping[str, str]", home: str) -> str:
    """A path of ssh_config: ``~``, ``${NAME}`` and ``%x`` replaced. ConfigError for a token that means nothing."""
    def variable(match: "re.Match[str]") -> str:
        if match.group(1) not in environ:
            raise ConfigError("%r: there is no variable %s" % (text, match.group(1)))
        return environ[match.group(1)]

    def token(match: "re.Match[str]") -> str:
        if match.group(1) not in tokens:
            raise ConfigError("%r: what %%%s means is not known here" % (text, match.group(1)))
        return tokens[match.group(1)]

    out = re.sub(r"\$\{(\w+)\}", variable, text)
    out = re.sub("%(.?)", token, out, flags=re.DOTALL)
    if out == "~" or out.startswith("~/"):
        out = home + out[1:]
    return out
