"""What ansible-core hands to a connection to be run by Python: an AnsiballZ wrapper, taken apart.

From 2.19 on the wrapper ends in a call with literal arguments, one a line. Anything else is no payload for us."""

import ast
import binascii
import hashlib
import re
from typing import Any, NamedTuple

_CALL = b'\nif __name__ == "__main__":\n    _ansiballz_main(\n'
_ZIP = re.compile(rb"^zip_data='([A-Za-z0-9+/=]*)',$", re.MULTILINE)


class Payload(NamedTuple):
    """One module call: the archive by its hash and base64 text, and the rest."""

    digest: str
    zip_text: bytes
    task: dict[str, Any]

    def zip_data(self) -> bytes:
        """The archive itself."""
        return binascii.a2b_base64(self.zip_text)


def take_apart(data: bytes) -> Payload | None:
    """The payload in the text of a module that is fed to Python, or None where it is none that we know."""
    at = data.rfind(_CALL)
    if at < 0:
        return None
    call = data[at + len(_CALL):]
    found = _ZIP.search(call)
    if found is None:
        return None
    rest = call[:found.start()] + call[found.end():]
    fields: dict[str, Any] = {}
    for line in rest.split(b"\n"):
        name, equals, text = line.rstrip(b",").partition(b"=")
        if equals and name != b"date_time":
            try:
                fields[name.decode()] = ast.literal_eval(text.decode())
            except (ValueError, SyntaxError):
                return None
    if set(fields) != {"ansible_module", "module_fqn", "profile", "rlimit_nofile", "params", "extensions"}:
        return None
    task = {"fqn": fields["module_fqn"], "params": fields["params"].encode(), "profile": fields["profile"],
            "extensions": fields["extensions"], "rlimit": fields["rlimit_nofile"], "env": {}}
    return Payload(hashlib.sha256(found[1]).hexdigest(), found[1], task)
