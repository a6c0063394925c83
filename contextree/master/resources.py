"""Files inside packages, and the metadata of distributions, read safely on behalf of a child.

How it works. A path is a tuple of checked parts, so ``..``, absolute and empty names never reach the file system. What
the parts lead to is resolved, and the real file has to lie in the package too: a symlink out of it is not followed.
The caller's ``permit`` is asked about the parts as given and as resolved. A file is opened without blocking and must
then be a regular one, so neither a FIFO nor a device can hang the master. Zip archives are opened per request: no
descriptor outlives a call.

Every function answers (result, reason), the result None where there is a reason; nothing raises. Any thread.
"""

import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import importlib.metadata

Parts = tuple[str, ...]
Permit = Callable[[Parts], bool]
Names = list[tuple[str, bool]]

NAMES_LIMIT = 100_000  # entries of one directory
METADATA_FILES = ("METADATA", "entry_points.txt", "top_level.txt")
METADATA_LIMIT = 4 * 1024 * 1024  # characters of one metadata file
_PATH_LIMIT = 1024
_DISTRIBUTION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")


def checked_parts(path: object) -> Parts | None:
    """Return the parts of a relative ``/`` path, ``()`` for the empty one; None if it is anything but plain."""
    if not isinstance(path, str) or len(path) > _PATH_LIMIT or "\0" in path or "\\" in path:
        return None
    try:
        path.encode()
    except UnicodeEncodeError:
        return None
    parts = tuple(path.split("/")) if path else ()
    if any(part in ("", ".", "..", "__pycache__") for part in parts) or (os.name == "nt" and ":" in path):
        return None
    return parts


def read(locations: Iterable[str], parts: Parts, permit: Permit, limit: int) -> tuple[bytes | None, str]:
    """Return the bytes of the regular file at ``parts`` in the first of ``locations`` that has it."""
    reason = "missing: no such resource"
    for location in locations:
        if os.path.isdir(location):
            data, reason = _read_file(location, parts, permit, limit)
        else:
            data, reason = _read_zip(location, parts, limit)
        if data is not None or not reason.startswith("missing"):
            return data, reason
    return None, reason


def is_file(locations: Iterable[str], parts: Parts, permit: Permit) -> bool:
    """Whether ``parts`` is a regular file that ``read`` would read, size apart."""
    for location in locations:
        if os.path.isdir(location):
            real, _ = _inside(location, parts, permit)
            if real and os.path.isfile(real):
                return True
        elif parts and _zip_names(location, parts[:-1], wanted=parts[-1]) == [(parts[-1], False)]:
            return True
    return False


def names(locations: Iterable[str], parts: Parts, permit: Permit) -> Names | None:
    """Return sorted (name, is_dir) of what is in the directory ``parts``, over all ``locations``; None if it is none.

    What ``read`` would refuse is left out.
    """
    found: dict[str, bool] = {}
    exists = False
    for location in locations:
        here = _dir_names(location, parts, permit) if os.path.isdir(location) else _zip_names(location, parts)
        exists = exists or here is not None
        for name, is_dir in here or ():
            if permit((*parts, name)):
                found.setdefault(name, is_dir)
    return sorted(found.items()) if exists else None


def _inside(location: str, parts: Parts, permit: Permit) -> tuple[str, str]:
    """The real path of ``parts`` in ``location``, and why there is none."""
    try:
        base = os.path.realpath(location)
        real = os.path.realpath(os.path.join(base, *parts), strict=True)
    except (OSError, ValueError):
        return "", "missing: no such resource"
    if real == base:
        return (real, "") if not parts else ("", "refused: leads out of the package")
    prefix = base.rstrip(os.sep) + os.sep
    if not real.startswith(prefix):
        return "", "refused: leads out of the package"
    if not permit(tuple(real[len(prefix) :].split(os.sep))):
        return "", "refused: not shared"
    return real, ""


def _read_file(location: str, parts: Parts, permit: Permit, limit: int) -> tuple[bytes | None, str]:
    real, reason = _inside(location, parts, permit)
    if not real:
        return None, reason
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    try:
        if not os.path.isfile(real):  # before opening: to open a device can already do something
            return None, "missing: not a file"
        with os.fdopen(os.open(real, flags), "rb") as handle:
            status = os.fstat(handle.fileno())
            if not stat.S_ISREG(status.st_mode):
                return None, "missing: not a file"
            data = handle.read(limit + 1) if status.st_size <= limit else b""
            if status.st_size > limit or len(data) > limit:
                return None, f"refused: larger than {limit} bytes"
            return data, ""
    except (OSError, ValueError) as error:
        return None, f"missing: cannot be read ({type(error).__name__})"


def _dir_names(location: str, parts: Parts, permit: Permit) -> Names | None:
    real, _ = _inside(location, parts, permit)
    if not real:
        return None
    found: Names = []
    try:
        with os.scandir(real) as entries:
            for entry in entries:
                if len(found) >= NAMES_LIMIT or checked_parts(entry.name) is None:
                    continue
                inside = not entry.is_symlink() or _inside(location, (*parts, entry.name), permit)[0]
                if inside and (entry.is_dir() or entry.is_file()):
                    found.append((entry.name, entry.is_dir()))
    except OSError:
        return None
    return found


def _split_zip(location: str) -> tuple[str, str]:
    """The archive that ``location`` lies in, and the directory in it as a prefix; both empty if there is none."""
    archive, inner = location, ""
    while archive and not os.path.exists(archive):
        archive, _, last = archive.rpartition(os.sep)
        inner = f"{last}/{inner}"
    return (archive, inner) if archive and os.path.isfile(archive) else ("", "")


def _read_zip(location: str, parts: Parts, limit: int) -> tuple[bytes | None, str]:
    archive, inner = _split_zip(location)
    if not archive:
        return None, "missing: no such resource"
    import zipfile

    try:
        with zipfile.ZipFile(archive) as opened:
            info = opened.getinfo(inner + "/".join(parts))
            if info.file_size > limit:
                return None, f"refused: larger than {limit} bytes"
            with opened.open(info) as handle:
                data = handle.read(limit + 1)
            return (data, "") if len(data) <= limit else (None, f"refused: larger than {limit} bytes")
    except KeyError:
        return None, "missing: no such resource"
    except Exception as error:  # a damaged archive raises whatever zlib, lzma or struct raise
        return None, f"missing: cannot be read ({type(error).__name__})"


def _zip_names(location: str, parts: Parts, wanted: str | None = None) -> Names | None:
    archive, inner = _split_zip(location)
    if not archive:
        return None
    prefix = "".join([inner, *(part + "/" for part in parts)])
    found: dict[str, bool] = {}
    exists = False
    import zipfile

    try:
        with zipfile.ZipFile(archive) as opened:
            for path in opened.namelist():
                if not path.startswith(prefix):
                    continue
                exists = True
                name, slash, _ = path[len(prefix) :].partition("/")
                if checked_parts(name) and wanted in (None, name) and len(found) < NAMES_LIMIT:
                    found[name] = found.get(name, False) or bool(slash)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return None
    return sorted(found.items()) if exists else None


def distribution(name: object, path: Sequence[str] | None) -> "importlib.metadata.Distribution | None":
    """Return the installed distribution ``name``; None if there is none or the name is not one."""
    if not isinstance(name, str) or not _DISTRIBUTION.fullmatch(name):
        return None
    return next(iter(distributions(path, name=name)), None)


def distributions(path: Sequence[str] | None, **filters: str) -> "list[importlib.metadata.Distribution]":
    """Return all installed distributions that can be read at all."""
    import importlib.metadata  # brings the email package along, so only when asked

    context: dict[str, Any] = dict(filters) if path is None else {**filters, "path": list(path)}
    try:
        return list(importlib.metadata.distributions(**context))
    except Exception:  # import hooks may have finders of distributions, which are anybody's code
        return []


def distribution_name(found: "importlib.metadata.Distribution") -> str:
    """Return its name, or nothing if it does not say."""
    try:
        name = found.metadata["Name"]
    except Exception:
        return ""
    return name if isinstance(name, str) and _DISTRIBUTION.fullmatch(name) else ""


def modules_of(found: "importlib.metadata.Distribution") -> set[str]:
    """Return the dotted names of the packages (and top-level modules) that a distribution installs."""
    modules: set[str] = set()
    top = _text(found, "top_level.txt") or ""
    modules.update(line.strip().replace("/", ".") for line in top.splitlines() if line.strip())
    try:
        files = found.files or []
    except Exception:
        files = []
    for file in files:
        parts = str(file).split("/")
        if file.suffix == ".py" and ".." not in parts:
            modules.add(".".join(parts[:-1]) if len(parts) > 1 else parts[0].removesuffix(".py"))
    # An editable install lists neither; by custom its package is called as it is.
    modules.add(distribution_name(found).lower().replace("-", "_"))
    return {each for each in modules if each}


def metadata_files(found: "importlib.metadata.Distribution") -> dict[str, str]:
    """Return the texts of ``METADATA_FILES`` that a distribution has; an egg's PKG-INFO counts as METADATA."""
    texts = {name: _text(found, name) for name in METADATA_FILES}
    if texts["METADATA"] is None:
        texts["METADATA"] = _text(found, "PKG-INFO")
    return {name: text for name, text in texts.items() if text is not None and len(text) <= METADATA_LIMIT}


def _text(found: "importlib.metadata.Distribution", name: str) -> str | None:
    try:
        return found.read_text(name)
    except Exception:
        return None
