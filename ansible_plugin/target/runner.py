"""Modules of Ansible on the target, in the interpreter of the context that this is called in."""

from . import warm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional

MISSING = warm.MISSING
template = warm.Template()


def run(digest: str, data: "Optional[bytes]", task: "Dict[str, Any]") -> "Any":
    """Run a module; (status, stdout, stderr) of its process, or MISSING where its archive has not come yet."""
    return template.run(digest, data, task)
