"""What ansible-core hands to a connection to be run by Python: an AnsiballZ wrapper, taken apart.

From 2.19 on the wrapper ends in a call with literal arguments, one a line. Before, it is made of a template of core's,
so what is not a filled-in place must be exactly as in the core that is installed. What is in any way different is no
payload for us, and is run as stock runs it."""

import ast
import binascii
import functools
import hashlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

SEEN = 20  # archives that a process remembers; core does the same with all of them, but in another form
_MARK = b"_ANSIBALLZ_WRAPPER = True"
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")

# 2.19 and newer
_CALL = b'\n\n\nif __name__ == "__main__":\n    _ansiballz_main(\n'
_WANTED = b"ansible_module", b"module_fqn", b"profile", b"date_time", b"rlimit_nofile", b"params", b"extensions"
_LAST, _END = b"\nzip_data='", b"',\n)\n"
_DATE = re.compile(rb"datetime\.datetime\([0-9, ]+(tzinfo=datetime\.timezone\.utc)?\)")

# 2.18 and older
_PLACE = re.compile(r"%(?:\((\w+)\)([rs])|%)")
_PLACES = {"shebang", "coding", "rlimit", "zipdata", "date_time", "coverage", "module_fqn", "params", "ansible_module"}
_OLD_DATE = re.compile(rb"[\w.]*\(?[\w=, ]+\)?")
_OLD_LIMIT = re.compile(r"%\(rlimit_nofile\)d")


class Payload(NamedTuple):
    """One module call: the archive by its hash and base64 text, and the rest."""

    digest: str
    zip_text: bytes
    task: dict[str, Any]

    def zip_data(self) -> bytes:
        """The archive itself."""
        return binascii.a2b_base64(self.zip_text)


def take_apart(data: bytes) -> Payload | None:
    """The payload in the text of a module that is fed to Python, or None where it is none that we know.

    ``task`` is what ``target.warm`` wants: fqn, params, profile (None before 2.19), extensions, rlimit, env."""
    if _MARK not in data[:4096]:
        return None
    try:
        return _of_call(data) or _of_template(data)
    except (ValueError, SyntaxError, UnicodeError, RecursionError, MemoryError):
        return None


def _payload(fqn: object, params: object, data: bytes, place: slice, profile: object, rlimit: object) -> Payload | None:
    """The payload, if all of it is what it should be. ``place``: that of the archive in ``data``."""
    if not (isinstance(fqn, str) and _NAME.fullmatch(fqn) and isinstance(params, str) and params[:1] == "{"
            and (profile is None or (isinstance(profile, str) and _NAME.fullmatch(profile)))
            and type(rlimit) is int and 0 <= rlimit < 1 << 31):
        return None
    archive = _archive(data, place)
    if archive is None:
        return None
    zip_text, digest = archive
    task: dict[str, Any] = {"fqn": fqn, "params": params.encode(), "profile": profile, "extensions": {},
                            "rlimit": rlimit, "env": {}}
    return Payload(digest, zip_text, task)


_archives: dict[tuple[int, bytes], tuple[bytes, str]] = {}  # those that this process has seen


def _archive(data: bytes, place: slice) -> tuple[bytes, str] | None:
    """An archive, and its digest; None if the text is none. Of one that was seen before it is known: comparing takes a
    hundredth of the time."""
    key = place.stop - place.start, data[place.stop - 64:place.stop]
    seen = _archives.get(key)
    if seen is not None and data.startswith(seen[0], place.start):
        return seen
    zip_text = data[place]
    if not zip_text or len(zip_text) % 4 or zip_text.translate(None, _BASE64):
        return None
    if len(_archives) >= SEEN:
        _archives.clear()
    seen = _archives[key] = zip_text, hashlib.sha256(zip_text).hexdigest()
    return seen


def _literal(text: bytes) -> object:
    return ast.literal_eval(text.decode())


# -- 2.19 and newer


def _of_call(data: bytes) -> Payload | None:
    at = data.find(_CALL) + len(_CALL)
    end = data.find(_LAST, at)
    place = slice(end + len(_LAST), len(data) - len(_END))
    if at < len(_CALL) or end < 0 or not data.endswith(_END) or place.stop < place.start:
        return None
    found: dict[bytes, bytes] = {}
    for line in data[at:end].split(b"\n"):
        name, _, text = line.partition(b"=")
        if text[-1:] != b"," or name in found:
            return None
        found[name] = text[:-1]
    if (set(found) != set(_WANTED) or found[b"extensions"] != b"{}" or not _DATE.fullmatch(found[b"date_time"])
            or not isinstance(_literal(found[b"ansible_module"]), str)):
        return None
    fqn, params, profile, rlimit = (_literal(found[name]) for name in (b"module_fqn", b"params", b"profile",
                                                                       b"rlimit_nofile"))
    return _payload(fqn, params, data, place, profile, rlimit) if profile else None


# -- 2.18 and older


@functools.cache
def templates() -> tuple[str, str] | None:
    """The text of the installed core's template, and that of its part for the limit of open files; None: it has no
    such."""
    try:
        from ansible.executor.module_common import ACTIVE_ANSIBALLZ_TEMPLATE, ANSIBALLZ_RLIMIT_TEMPLATE
    except ImportError:
        return None
    return ACTIVE_ANSIBALLZ_TEMPLATE, ANSIBALLZ_RLIMIT_TEMPLATE


@functools.lru_cache(maxsize=2)
def _pieces(template: str, limit: str) -> tuple[list[bytes], list[str], Callable[[bytes], object]] | None:
    """A template as the texts between its places and the names of these, and what tells the limit from a filled-in
    part for it (None: it is none). None, if it is not such a template as we know."""
    parts: list[str] = [""]
    names: list[str] = []
    end = 0
    for place in _PLACE.finditer(template):
        parts[-1] += template[end:place.start()]
        end = place.end()
        if place[1]:
            names.append(place[1])
            parts.append("")
        else:
            parts[-1] += "%"
    parts[-1] += template[end:]
    about_limit = _OLD_LIMIT.split(limit)
    if set(names) != _PLACES or "basic._ANSIBLE_ARGS = json_params" not in template or len(about_limit) != 2:
        return None
    pattern = re.compile(rb"(\d{1,9})".join(re.escape(part.replace("%%", "%").encode()) for part in about_limit))

    def limit_of(text: bytes) -> object:
        if not text:
            return 0
        found = pattern.fullmatch(text)
        return int(found[1]) if found else None

    return [part.encode() for part in parts], names, limit_of


def _of_template(data: bytes) -> Payload | None:
    texts = templates()
    pieces = _pieces(*texts) if texts else None
    if pieces is None:
        return None
    parts, names, limit_of = pieces
    found: dict[str, slice] = {}
    if not data.startswith(parts[0]):
        return None
    at = len(parts[0])
    for name, part in zip(names, parts[1:], strict=True):
        end = data.find(part, at) if part is not parts[-1] else len(data) - len(part)
        place = slice(at, end)
        if end < at or data[end:end + len(part)] != part or data[found.setdefault(name, place)] != data[place]:
            return None
        at = end + len(part)
    text = {name: data[place] for name, place in found.items() if name != "zipdata"}
    place = found["zipdata"]
    if (at != len(data) or text["coverage"] or b"\n" in text["shebang"] or text["shebang"][:2] != b"#!"
            or b"\n" in text["coding"] or not _OLD_DATE.fullmatch(text["date_time"])
            or place.stop - place.start < 2 or {data[place.start], data[place.stop - 1]} != {ord("'")}
            or not isinstance(_literal(text["ansible_module"]), str)):
        return None
    place = slice(place.start + 1, place.stop - 1)
    return _payload(_literal(text["module_fqn"]), _literal(text["params"]), data, place, None, limit_of(text["rlimit"]))
