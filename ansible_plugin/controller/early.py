"""What every worker would do again is done once, before the first is forked: modules imported, caches filled.

Nothing here is needed; what cannot be done is left to the workers, who then say what is wrong as in stock.
"""

import importlib
from typing import Any

from ansible import constants as C  # noqa: N812  as everywhere in ansible
from ansible.plugins import loader


def prepare(strategy: Any, play: Any) -> None:
    """Get ready for the tasks of a play. Says nothing, raises nothing."""
    importlib.import_module("contextree.parent.join")
    hosts = [host for host in map(strategy._inventory.get_host, strategy._hosts_cache) if host is not None]
    named = [C.DEFAULT_TRANSPORT, play.connection, *{host.vars.get("ansible_connection") for host in hosts}]
    for name in dict.fromkeys(name for name in named if isinstance(name, str) and "{" not in name):
        _class(loader.connection_loader, name)
    _class(loader.shell_loader, "sh")
    _class(loader.action_loader, "ansible.legacy.normal")
    if play.become is True or C.DEFAULT_BECOME:
        method = play.become_method if isinstance(play.become_method, str) else C.DEFAULT_BECOME_METHOD
        if "{" not in method:
            _class(loader.become_loader, method)
    for step in _results, _profiles, _filters:
        try:
            step()
        except Exception:  # another core
            continue


def _class(plugins: Any, name: str) -> None:
    """Have a plugin imported."""
    try:
        plugins.get_with_context(name, class_only=True)
    except Exception:  # it says so where it is used
        return


def _results() -> None:
    """What core makes of the annotations of its results (2.21)."""
    from ansible._internal._task import UnifiedTaskResult

    for of_module in True, False:
        UnifiedTaskResult.get_result_key_to_resolved_field_mapping(of_module)


def _profiles() -> None:
    """How arguments and results of modules are written (2.19)."""
    from ansible.module_utils.common.json import Direction, get_module_decoder, get_module_encoder

    get_module_encoder("legacy", Direction.CONTROLLER_TO_MODULE)
    get_module_decoder("legacy", Direction.MODULE_TO_CONTROLLER)


def _filters() -> None:
    """Core's filters and tests. Before 2.19 this warned of plugins that cannot be imported, used or not."""
    if hasattr(loader, "_DeferredPluginLoadFailure"):
        for plugins, name in ((loader.filter_loader, "default"), (loader.test_loader, "defined")):
            plugins.get(name)
