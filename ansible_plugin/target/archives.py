"""Archives of modules in parts: what most of them have in common is sent to a host once.

An AnsiballZ zip is a module and some forty files of ``ansible.module_utils``, which are nearly the same in each. So a
zip is taken apart into its members' compressed bytes, each known by its hash, and what stands between them; and is put
together again at the other end, byte by byte the same, from what has come before and what is new.
"""

import hashlib
import threading
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Tuple

    Recipe = Tuple[bytes, bytes, List[Tuple[int, bytes]]]  # sha256 of the whole, what is between, (where, part)

SMALL = 128  # members of fewer bytes stay where they are
LIMIT = 1 << 26  # bytes of parts that are kept on a host
RECIPES = 500  # archives that are kept there, of a few kilobytes each
_HEADER = 30  # bytes of a local file header before its name; PKWARE's APPNOTE.TXT, 4.3.7


def take_apart(data: bytes) -> "Tuple[Recipe, Dict[bytes, bytes]]":
    """How a zip is put together, and its parts. Raises ``zipfile.BadZipFile``."""
    parts = {}  # type: Dict[bytes, bytes]
    places = []  # type: List[Tuple[int, bytes]]
    between = []  # type: List[bytes]
    position = size = 0
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = sorted((each.header_offset, each.compress_size) for each in archive.infolist())
    for offset, length in members:
        start = offset + _HEADER + sum(int.from_bytes(data[offset + at:offset + at + 2], "little") for at in (26, 28))
        if length >= SMALL and start >= position:
            part = data[start:start + length]
            key = hashlib.sha256(part).digest()[:16]
            parts[key] = part
            between.append(data[position:start])
            size += start - position
            places.append((size, key))
            position = start + length
    between.append(data[position:])
    return (hashlib.sha256(data).digest(), zlib.compress(b"".join(between)), places), parts


class Store:
    """What a host has got. From any thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.recipes = {}  # type: Dict[str, Recipe]
        self.parts = {}  # type: Dict[bytes, bytes]
        self.size = 0

    def add(self, digest: str, recipe: "Recipe", parts: "Dict[bytes, bytes]") -> None:
        """Keep what has come."""
        with self.lock:
            if self.size > LIMIT or len(self.recipes) > RECIPES:
                self.recipes.clear()
                self.parts.clear()
                self.size = 0
            self.recipes[digest] = recipe
            self.parts.update(parts)
            self.size += sum(map(len, parts.values()))

    def get(self, digest: str) -> "Any":
        """The archive with this digest; None where not all of it is here."""
        with self.lock:
            recipe = self.recipes.get(digest)
            if recipe is None:
                return None
            parts = {key: self.parts[key] for _, key in recipe[2] if key in self.parts}
        return put_together(recipe, parts)


def put_together(recipe: "Recipe", parts: "Dict[bytes, bytes]") -> "Any":
    """An archive; None where a part of it is not there, or it is another one."""
    whole, packed, places = recipe
    try:
        found = [parts[key] for _, key in places]
    except KeyError:
        return None
    between = zlib.decompress(packed)
    out = []
    position = 0
    for (place, _), part in zip(places, found):
        out += [between[position:place], part]
        position = place
    data = b"".join(out) + between[position:]
    return data if hashlib.sha256(data).digest() == whole else None
