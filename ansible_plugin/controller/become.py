"""Ways to another account: which of core's become plugins we can do ourselves, once, and by what."""

from typing import Any

Spec = tuple[str, dict[str, Any]]


def spec(plugin: Any) -> Spec | None:
    """The method of ours that does what a become plugin would, and its options; None: only the plugin can."""
    if getattr(plugin, "_load_name", "").rpartition(".")[2] != "sudo" or plugin.get_option("become_pass"):
        return None
    flags = [flag for flag in (plugin.get_option("become_flags") or "").split() if flag not in ("-H", "-S", "-n")]
    if flags or plugin.get_option("become_exe") not in (None, "sudo"):
        return None
    return "sudo", {"user": plugin.get_option("become_user") or "root"}
