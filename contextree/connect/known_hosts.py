"""Files of known host keys: what they say of one host. Pure: who uses it reads the files.

As in sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT": names with wildcards and negation, hashed names, ``[host]:port``,
``@revoked`` and ``@cert-authority``. A line that cannot be read is left out, as ssh does; a key that is marked as
revoked is refused whatever the other lines say.
"""

import base64
import binascii
import collections
import hashlib
import hmac

from contextree.connect.ssh_config import in_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Sequence

Entry = collections.namedtuple("Entry", "marker names kind key where")

#: What ``verdict`` gives.
KNOWN, NEW, CHANGED, OTHER, AUTHORITY, REVOKED = "known", "new", "changed", "other", "authority", "revoked"


def entries(text: str, name: str) -> "List[Entry]":
    """The lines of a file; ``name`` tells where they stand."""
    out = []
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.split()
        marker = ""
        if parts and parts[0].startswith("@"):
            marker = parts.pop(0).lower()
        if len(parts) < 3 or parts[0].startswith("#"):
            continue
        out.append(Entry(marker, parts[0], parts[1], parts[2], "%s:%d" % (name, number)))
    return out


def spelled(host: str, port: int) -> str:
    """A host's name as it stands in these files."""
    return host if port == 22 else "[%s]:%d" % (host, port)


def is_for(entry: "Entry", name: str) -> bool:
    """Is this line about the host ``name``?"""
    if entry.names.startswith("|1|"):
        try:
            salt, digest = (base64.b64decode(part) for part in entry.names[3:].split("|"))
        except (ValueError, binascii.Error):
            return False
        return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)
    return in_list(entry.names.split(","), name)


def hashed(name: str, salt: bytes) -> str:
    """A name that cannot be read; ``salt``: 20 bytes by chance."""
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return "|1|%s|%s" % (base64.b64encode(salt).decode(), base64.b64encode(digest).decode())


def kinds(lines: "Sequence[Entry]", name: str, port: int) -> "List[str]":
    """The kinds of keys that are known of a host, so that it is asked for one of them."""
    names = {spelled(name, port), name}
    return [entry.kind for entry in lines if not entry.marker and any(is_for(entry, each) for each in names)]


def verdict(lines: "Sequence[Entry]", name: str, port: int, kind: str, key: str) -> "tuple[str, str]":
    """What the files say of the ``key`` (base64) that a host showed: (one of the constants, where it stands).

    KNOWN     it stands there, under this name, or (as ssh has it) under the host's name without the port.
    REVOKED   it is marked as revoked for this host.
    CHANGED   another key of this kind stands there.
    OTHER     keys of other kinds alone stand there.
    AUTHORITY only an authority stands there, whose certificates would have to be checked.
    NEW       nothing is known of the host.
    """
    own = [entry for entry in lines if is_for(entry, spelled(name, port))]
    plain = [entry for entry in lines if port != 22 and is_for(entry, name)]
    for entry in own + plain:
        if entry.marker == "@revoked" and entry.key == key:
            return REVOKED, entry.where
    for entry in own + plain:
        if not entry.marker and entry.key == key:
            return KNOWN, entry.where
    for wanted, answer in ((True, CHANGED), (False, OTHER)):
        for entry in own:
            if not entry.marker and (entry.kind == kind) is wanted:
                return answer, entry.where
    for entry in own:
        if entry.marker == "@cert-authority":
            return AUTHORITY, entry.where
    return NEW, ""
