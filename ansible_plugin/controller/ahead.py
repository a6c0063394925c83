"""Links that are opened while core still puts together the first module that is going to need them.

Core knows how a host is reached some time before it has something to send: building a module takes as long as half of a
connect. So a task whose module is sure to go to its host has the multiplexer begin at once, and start there the Python
that the module wants. Where the task fails before it gets that far, the link has been opened in vain.
"""

from typing import Any

from ansible import constants as C  # noqa: N812  as everywhere in ansible

from . import worker

#: Of core's modules those that go to their host whatever their arguments are.
SURE = frozenset("""
    apt apt_key apt_repository blockinfile command copy cron debconf dnf dnf5 dpkg_selections file find gather_facts
    get_url getent git group hostname iptables known_hosts lineinfile mount_facts package package_facts pip ping replace
    rpm_key service service_facts setup shell slurp stat subversion systemd systemd_service sysvinit tempfile template
    unarchive uri user yum_repository
    """.split())

_asked: set[str] = set()  # the keys of links that this process has asked for


def name_of(action: Any) -> str:
    """The short name of a module of core; of others one that nothing has."""
    name = str.__str__(action) if isinstance(action, str) else ""
    return name.removeprefix("ansible.builtin.").removeprefix("ansible.legacy.")


def begin(connection: Any, action: Any) -> None:
    """Have the link of a connection opened, for a task with this action. Waits for nothing but the multiplexer, and
    raises nothing: whatever is wrong, the task itself will be told."""
    if name_of(action) not in SURE or not worker.is_early(C.DEFAULT_LOCAL_TMP):
        return
    try:
        link = connection.link()
        if link.key not in _asked:
            _asked.add(link.key)
            elsewhere = connection.become is not None  # modules of another account have another Python there
            python = [connection.interpreter] if connection.interpreter and not elsewhere else None
            worker.service(C.DEFAULT_LOCAL_TMP, connection.main_pid).submit.prepare(link, python)
    except Exception:  # options that mean nothing, no multiplexer ...
        return
