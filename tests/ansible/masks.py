"""What may differ between two runs of one playbook: masked as narrowly as can be, everything else is compared."""

import re
from typing import Any

# in any text: temporary names, process ids in names, ports of the client, moments
TEXTS = [
    # a module that raises (before 2.19), or cannot be imported, shows a traceback: who called it and how it was
    # imported there, and the text of lines, which the archive of ours has and that of stock has not
    (r'  File \\?"(<stdin>|<frozen [\w.]+>|[\w:/.-]*(player|modules)\.py)\\?", line \d+, in [<>\w]+(\n|\\n)', ""),
    (r'(  File \\?"[^"]*payload[^"]*", line \d+, in [<>\w]+)((\n|\\n)    ((?!\\n)[^\n])*)+', r"\1"),
    (r"(?<![\w/.~-])[\w/.~-]*/ansible_[\w.]*payload[\w.]*(/ansible_[\w.]*payload\.zip)?(?=/ansible(_collections)?/)",
     "<payload>"),
    (r"ansible-tmp-[0-9.]+-[0-9]+-[0-9]+", "ansible-tmp-*"),
    (r"ansible-moduletmp-[0-9.]+-[a-z0-9_]{8}", "ansible-moduletmp-*"),
    (r"ansible-local-[0-9]+[A-Za-z0-9_]+", "ansible-local-*"),
    (r"ansible_[a-zA-Z0-9_.]+_payload_[A-Za-z0-9_]{8}", "ansible_payload_*"),
    (r"ansible_[a-zA-Z0-9_.]*_?payload_[A-Za-z0-9_]{8}\.zip", "ansible_payload_*.zip"),
    (r"(?<=/)\.?ansible[._][A-Za-z0-9_]*tmp[A-Za-z0-9_]{8}", "ansible*tmp*"),
    (r"(?<=/)tmp[a-z0-9_]{8}(?![a-z0-9_])", "tmp*"),
    (r"^(tmp|\.)[a-z0-9_]{8}$", "tmp*"),
    (r"(?<=ansible\.)[a-z0-9_]{8}(?=test|\b)", "*"),
    (r"\bj?[0-9]{9,12}\.[0-9]{2,7}\b", "<job>"),
    (r"\b20\d\d-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?", "<moment>"),
    (r"\b0:00:\d\d(\.\d{6})?\b", "<span>"),
    (r"(?<=127\.0\.0\.1 )\d{4,5}(?= )", "<port>"),
    (r"\[?\b0x[0-9a-f]{8,16}\b", "<address>"),
    (r"(?<=ansible-local-\*/)\.[a-z0-9_]{8}\b", ".*"),
    (r"\.\d+\.\d{4}-\d\d-\d\d@\d\d:\d\d:\d\d~", ".<pid>.<moment>~"),
    (r"\b\d+(\.\d+)? seconds\b", "<seconds> seconds"),
    (r"BECOME-SUCCESS-[a-z]{32}", "BECOME-SUCCESS-*"),
    (r"/dev/pts/\d+", "/dev/pts/*"),
    (r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} 20\d\d \d\d:\d\d:\d\d GMT", "<date>"),
    (r'"(elapsed|child_pid)": \d+', r'"\1": *'),
    (r"Retrieved [0-9.]+ bytes", "Retrieved * bytes"),
]
_TEXTS = [(re.compile(pattern), word) for pattern, word in TEXTS]

# by the last parts of the key: numbers that a file system or a clock gives
KEYS = re.compile(r"""(^|/)(
    atime|mtime|ctime|birthtime|inode|elapsed|child_pid|ansible_job_id|uptime_seconds
    |stat/version|CTXT_PLAY|files/\d+/(dev|version)
    )$""", re.VERBOSE)
# facts that change while one looks, or tell of the process that asks
FACTS = {"ansible_date_time", "ansible_uptime_seconds", "ansible_memfree_mb", "ansible_memory_mb", "ansible_loadavg",
         "ansible_swapfree_mb", "ansible_processor_vcpus_load", "ansible_mounts", "ansible_entropy"}
# lists that come from a set: their order is chance
SETS = {"ansible_interfaces", "ansible_virtualization_tech_guest", "ansible_virtualization_tech_host"}


def text(value: str) -> str:
    """``value`` without what differs from run to run."""
    for pattern, word in _TEXTS:
        value = pattern.sub(word, value)
    return value


def value(found: Any, path: str = "") -> Any:
    """A result without what differs from run to run; ``path``: the keys below which it stands."""
    if path.rpartition("/")[2] in FACTS or (KEYS.search(path) and isinstance(found, (int, float, str)) and found != ""):
        return "<%s>" % path.rpartition("/")[2]
    if isinstance(found, dict):
        return {text(name): value(each, "%s/%s" % (path, name)) for name, each in found.items()}
    if isinstance(found, list):
        if path.rpartition("/")[2] in SETS:
            found = sorted(found)
        return [value(each, "%s/%d" % (path, number)) for number, each in enumerate(found)]
    return text(found) if isinstance(found, str) else found
