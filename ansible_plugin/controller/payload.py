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
_WANTED = (b"ansible_module", b"module_fqn", b"profile", b"date_time", b"rlimit_nofile", b"params", b"extensions",
           b"zip_data")
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


def _payload(fqn: object, params: object, zip_text: bytes, profile: object, rlimit: object) -> Payload | None:
    """The payload, if all of it is what it should be."""
    if not (isinstance(fqn, str) and _NAME.fullmatch(fqn) and isinstance(params, str) and params[:1] == "{"
            and (profile is None or (isinstance(profile, str) and _NAME.fullmatch(profile)))
            and type(rlimit) is int and 0 <= rlimit < 1 << 31):
        return None
    digest = _digest(zip_text)
    if digest is None:
        return None
    task: dict[str, Any] = {"fqn": fqn, "params": params.encode(), "profile": profile, "extensions": {},
                            "rlimit": rlimit, "env": {}}
    return Payload(digest, zip_text, task)


_digests: dict[tuple[int, bytes], tuple[bytes, str]] = {}  # of archives that this process has seen


def _digest(zip_text: bytes) -> str | None:
    """The digest of an archive, None if the text is none. Of one that was seen before it is known: comparing takes a
    hundredth of the time."""
    key = len(zip_text), zip_text[-64:]
    seen = _digests.get(key)
    if seen is not None and seen[0] == zip_text:
        return seen[1]
    if not zip_text or len(zip_text) % 4 or zip_text.translate(None, _BASE64):
        return None
    if len(_digests) >= SEEN:
        _digests.clear()
    digest = hashlib.sha256(zip_text).hexdigest()
    _digests[key] = zip_text, digest
    return digest


def _literal(text: bytes) -> object:
    return ast.literal_eval(text.decode())


# -- 2.19 and newer


def _of_call(data: bytes) -> Payload | None:
    at = data.rfind(_CALL)
    lines = data[at + len(_CALL):].split(b"\n") if at >= 0 else []
    if len(lines) != len(_WANTED) + 2 or lines[-2:] != [b")", b""]:
        return None
    found: dict[bytes, bytes] = {}
    for line in lines[:-2]:
        name, _, text = line.partition(b"=")
        if text[-1:] != b",":
            return None
        found[name] = text[:-1]
    zip_text = found.get(b"zip_data", b"")
    if (set(found) != set(_WANTED) or found[b"extensions"] != b"{}" or not _DATE.fullmatch(found[b"date_time"])
            or zip_text[:1] != b"'" or zip_text[-1:] != b"'"
            or not isinstance(_literal(found[b"ansible_module"]), str)):
        return None
    fqn, params, profile, rlimit = (_literal(found[name]) for name in (b"module_fqn", b"params", b"profile",
                                                                       b"rlimit_nofile"))
    return _payload(fqn, params, zip_text[1:-1], profile, rlimit) if profile else None


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
    found: dict[str, bytes] = {}
    if not data.startswith(parts[0]):
        return None
    at = len(parts[0])
    for name, part in zip(names, parts[1:], strict=True):
        end = data.find(part, at) if part is not parts[-1] else len(data) - len(part)
        if end < at or data[end:end + len(part)] != part or found.setdefault(name, data[at:end]) != data[at:end]:
            return None
        at = end + len(part)
    zip_text = found["zipdata"]
    if (at != len(data) or found["coverage"] or b"\n" in found["shebang"] or found["shebang"][:2] != b"#!"
            or b"\n" in found["coding"] or not _OLD_DATE.fullmatch(found["date_time"])
            or zip_text[:1] != b"'" or zip_text[-1:] != b"'"
            or not isinstance(_literal(found["ansible_module"]), str)):
        return None
    return _payload(_literal(found["module_fqn"]), _literal(found["params"]), zip_text[1:-1], None,
                    limit_of(found["rlimit"]))
