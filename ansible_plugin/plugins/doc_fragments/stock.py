"""For ``ansible-doc``: the options of the plugins that ours are made of, in the words of the installed version."""

import importlib
import re

_OPTIONS = re.compile(r"^( *)options:\n(?:(?:\1 +\S.*)?\n)+", re.MULTILINE)
MODULES = {"SSH": "ansible.plugins.connection.ssh", "LOCAL": "ansible.plugins.connection.local"}


class ModuleDocFragment:
    """``contextree.fast.stock.ssh`` and so on."""

    def __getattr__(self, name: str) -> str:
        if name not in MODULES:
            raise AttributeError(name)
        found = _OPTIONS.search(importlib.import_module(MODULES[name]).DOCUMENTATION + "\n")
        return found[0] if found else "options: {}"
