"""Writes every result that ansible-playbook tells its callbacks, as one JSON object a line, to $CTXT_COLLECT."""

import json
import os

from ansible.plugins.callback import CallbackBase

try:
    from ansible.module_utils._internal._datatag import AnsibleTagHelper
except ImportError:  # before 2.19
    AnsibleTagHelper = None
try:
    from ansible.utils.unsafe_proxy import AnsibleUnsafe
except ImportError:
    AnsibleUnsafe = ()

DOCUMENTATION = """
name: collect
type: aggregate
short_description: every result as JSON
description: One line for each event.
"""
TOLD = ("v2_runner_on_ok", "v2_runner_on_failed", "v2_runner_on_skipped", "v2_runner_on_unreachable",
        "v2_runner_on_async_poll", "v2_runner_on_async_ok", "v2_runner_on_async_failed", "v2_runner_item_on_ok",
        "v2_runner_item_on_failed", "v2_runner_item_on_skipped", "v2_runner_retry", "v2_on_file_diff")


def plain(value, path, tags):
    """``value`` in plain types; what it is tagged with goes into ``tags``."""
    if isinstance(value, dict):
        return {str(key): plain(each, path + "/" + str(key), tags) for key, each in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(each, "%s/%d" % (path, number), tags) for number, each in enumerate(value)]
    if AnsibleTagHelper is not None:
        # where in a playbook a value was written is not of the result
        names = sorted(tag.__name__ for tag in AnsibleTagHelper.tag_types(value) if tag.__name__ != "Origin")
        if names:
            tags[path] = names
    elif isinstance(value, AnsibleUnsafe):
        tags[path] = ["AnsibleUnsafe"]
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return "%s: %r" % (type(value).__name__, value)


class CallbackModule(CallbackBase):
    """See the top of the file."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "collect"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.file = open(os.environ["CTXT_COLLECT"], "a")  # noqa: SIM115  for the life of the process

    def write(self, **row):
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()

    def v2_playbook_on_stats(self, stats):
        self.write(event="recap", hosts={host: stats.summarize(host) for host in sorted(stats.processed)})
        self.write(event="end", custom=plain(stats.custom, "", {}))

    def v2_playbook_on_notify(self, handler, host):
        self.write(event="v2_playbook_on_notify", host=host.get_name(), task=handler.get_name(), result={}, tags={})


def _teller(name):
    def tell(self, result, **options):
        tags = {}
        task = getattr(result, "task", None) or result._task
        host = getattr(result, "host", None) or result._host
        found = getattr(result, "result", None)
        found = plain(result._result if found is None else found, "", tags)
        row = {"event": name, "host": host.get_name(), "task": task.get_name(), "action": str(task.action),
               "result": found, "tags": tags}
        if options.get("ignore_errors"):
            row["ignore_errors"] = True
        if task.delegate_to:
            row["delegate_to"] = str(task.delegate_to)
        self.write(**row)

    tell.__name__ = name
    return tell


for _name in TOLD:
    setattr(CallbackModule, _name, _teller(_name))
