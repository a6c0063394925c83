"""What every worker would do again is done once, before the first is forked: modules imported, caches filled.

Nothing here is needed; what cannot be done is left to the workers, who then say what is wrong as in stock.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from ansible import constants as C  # noqa: N812  as everywhere in ansible
from ansible.plugins import loader

#: What may stand before the names of connections that say nothing when they are imported.
QUIET = "", "ansible.builtin.", "ansible.legacy.", "contextree.fast."


def prepare(strategy: Any, play: Any) -> None:
    """Get ready for the tasks of a play. Says nothing, raises nothing."""
    for step in _connections, _results, _profiles, _filters:
        try:
            step(strategy, play)
        except Exception:  # another core; or it says so where it is used
            continue
    _class(loader.shell_loader, "sh")
    _class(loader.action_loader, "ansible.legacy.normal")
    if play.become is True or C.DEFAULT_BECOME:
        _class(loader.become_loader, play.become_method or C.DEFAULT_BECOME_METHOD)


@contextlib.contextmanager
def paths_kept() -> Iterator[None]:
    """While this lasts, the folders of connection plugins are looked through once, and not for each ``get_vars``, which
    wants the names of all connections (it drops facts that begin with one)."""
    plugins = loader.connection_loader
    every = plugins.all
    known: dict[Any, list[str]] = {}

    def all_of_them(*args: Any, **kwargs: Any) -> Any:
        if args or kwargs != {"path_only": True}:
            return every(*args, **kwargs)
        folders = tuple(plugins._get_paths())
        if folders not in known:
            known[folders] = list(every(path_only=True))
        return iter(known[folders])

    plugins.all = all_of_them
    try:
        yield
    finally:
        del plugins.all


def _class(plugins: Any, name: Any) -> None:
    """Have a plugin imported."""
    if not isinstance(name, str) or "{" in name:
        return
    try:
        plugins.get_with_context(name, class_only=True)
    except Exception:  # it says so where it is used
        return


def _connections(strategy: Any, play: Any) -> None:
    """The connection plugins that are named for hosts and groups, if they are core's, which have nothing to say."""
    names = set()
    for host in strategy._inventory.get_hosts(play.hosts):
        groups = sorted(host.get_groups(), key=lambda group: group.depth)
        named = [each.vars["ansible_connection"] for each in (*groups, host) if "ansible_connection" in each.vars]
        names.add((named or [play.connection or C.DEFAULT_TRANSPORT])[-1])
    for name in names & {before + kind for kind in ("ssh", "local") for before in QUIET}:
        _class(loader.connection_loader, name)


def _results(*_: Any) -> None:
    """What core makes of the annotations of its results (2.21)."""
    from ansible._internal._task import UnifiedTaskResult

    for of_module in True, False:
        UnifiedTaskResult.get_result_key_to_resolved_field_mapping(of_module)


def _profiles(*_: Any) -> None:
    """How arguments and results of modules are written (2.19)."""
    from ansible.module_utils.common.json import Direction, get_module_decoder, get_module_encoder

    get_module_encoder("legacy", Direction.CONTROLLER_TO_MODULE)
    get_module_decoder("legacy", Direction.MODULE_TO_CONTROLLER)


def _filters(*_: Any) -> None:
    """Core's filters and tests. Before 2.19 this warned of plugins that cannot be imported, used or not."""
    if hasattr(loader, "_DeferredPluginLoadFailure"):
        for plugins, name in ((loader.filter_loader, "default"), (loader.test_loader, "defined")):
            plugins.get(name)
