"""Which of our connections stands for which one of core's and of collections.

Those that are not here run as they do without us. Not here are, though we have them: ``chroot`` and ``buildah``. An
interpreter that stays there keeps the file system busy, so a later task on the controller could not unmount it; who
knows that theirs do not may name ``contextree.fast.chroot``.
"""

from typing import Any

#: Full name of a plugin, after all redirections of collections -> ours.
OURS = {
    "ansible.builtin.ssh": "contextree.fast.ssh",
    "ansible.builtin.local": "contextree.fast.local",
    "community.docker.docker": "contextree.fast.docker",
    "community.docker.nsenter": "contextree.fast.nsenter",
    "containers.podman.podman": "contextree.fast.podman",
    "kubernetes.core.kubectl": "contextree.fast.kubectl",
    "community.okd.oc": "contextree.fast.oc",
    "community.general.incus": "contextree.fast.incus",
    "community.general.iocage": "contextree.fast.iocage",
    "community.general.jail": "contextree.fast.jail",
    "community.general.lxd": "contextree.fast.lxd",
}


class Redirect:
    """Stands for ``get_with_context`` of core's loader of connection plugins."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.load = loader.get_with_context
        self.known: dict[Any, tuple[str, str, list[str]] | None] = {}  # what was asked for -> see ``find``

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """See core's ``PluginLoader.get_with_context``."""
        found = self.find(name, kwargs.get("collection_list"))
        if found is None:
            return self.load(name, *args, **kwargs)
        result = self.load(found[0], *args, **kwargs)
        if result.object is not None and not kwargs.get("class_only"):
            result.object.stands_for, aliases = found[1:]
            result.object.ansible_name = aliases[0]  # core takes both from item to item of a loop
            result.object.ansible_aliases = [*aliases, *result.object.ansible_aliases]
        return result

    def find(self, name: str, collections: Any = None) -> tuple[str, str, list[str]] | None:
        """Our plugin for this name, the name and aliases that core would give to its own; None: it is none of ours."""
        key = name, tuple(collections or ())
        if key not in self.known:
            context = self.loader.find_plugin_with_context(name, collection_list=collections)
            ours = OURS.get(context.resolved_fqcn or "") if context.resolved else None
            aliases = [context.resolved_fqcn, *(context.redirect_list or [])[::-1]]
            self.known[key] = (ours, context.plugin_resolved_name, aliases) if ours else None
        return self.known[key]
