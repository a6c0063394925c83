"""What is accelerated in a user's setup, what is not, and why: for ``contextree ansible doctor``.

It is imported by ansible's own loader, so it is of the collection that a playbook would get, and it reads the same
configuration, inventory and variables. What only a play says (its ``strategy``, ``connection``, ``become``) it cannot
know. Nothing is connected to unless ``connect`` is called.
"""

import inspect
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from ansible import constants as C  # noqa: N812  as everywhere in ansible
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play_context import PlayContext
from ansible.plugins import loader as plugins
from ansible.release import __version__
from ansible.template import Templar
from ansible.vars.manager import VariableManager

from . import become as ways
from . import ready

OURS = "contextree.fast."
STRATEGIES = ("linear", "free", "host_pinned", "debug")
NETWORK = ("network_cli", "netconf", "httpapi", "grpc")
PARALLEL = 16


class Fact(NamedTuple):
    """One thing that was looked at. ``ok``: True, None (to be noted), False (nothing is accelerated)."""

    what: str
    ok: bool | None
    text: str


class Host(NamedTuple):
    """What becomes of a host's tasks. ``by``: the connection plugin that runs them; ``why``: what is not accelerated,
    or why nothing is."""

    name: str
    by: str
    fast: bool
    why: list[str]
    variables: dict[str, Any]


def setup() -> Iterator[Fact]:
    """Facts of this machine and of the configuration."""
    yield Fact("ansible-core", True, f"{__version__} on Python {sys.version.split()[0]}, {sys.executable}")
    why = ready.fault() or ready.fault(there=True)
    if why is None:
        for module, name in (("strategy", "Mixin"), ("ssh", "Ssh"), ("local", "Local")):
            ready.mixin(module, name)
        why = ready.broken()
    where = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    yield Fact("collection", why is None, f"{OURS[:-1]} {ready.version()} in {where}" if why is None else why)
    if not hasattr(os, "pidfd_open"):
        yield Fact("system", False, "no pidfd_open here, by which the multiplexer sees that a run has ended")
    yield Fact("configuration", True, C.CONFIG_FILE or "no ansible.cfg: all is as ansible-core has it by default")
    yield from switches()
    interpreter = configured("INTERPRETER_PYTHON")[0]
    if interpreter.startswith("auto"):
        yield Fact("interpreter", True, f"{interpreter}: discovered by the first module at each host, as in stock, "
                                        "where no variable names one")
    if C.DEFAULT_KEEP_REMOTE_FILES:
        yield Fact("keep_remote_files", None, "is on: modules are run as files, as in stock, and are not accelerated")
    yield Fact("forks", True, f"{C.DEFAULT_FORKS} hosts at a time")
    yield Fact("ControlPersist", True, "not used by our links, of which each host has one for the run; what is left to "
                                       "stock uses it as configured")


def switches() -> Iterator[Fact]:
    """What is switched on, and where."""
    strategy, origin = configured("DEFAULT_STRATEGY")
    transport, transport_origin = configured("DEFAULT_TRANSPORT")
    known = [OURS + name for name in STRATEGIES]
    if strategy in known:
        yield Fact("strategy", True, f"{strategy}, by {origin}")
    elif strategy.startswith("mitogen"):
        yield Fact("strategy", False, f"{strategy}, by {origin}: mitogen runs the plays; write strategy = "
                                      f"{OURS}{strategy.partition('_')[2] or 'linear'} in its place")
    elif transport.startswith(OURS):
        yield Fact("strategy", True, f"{strategy}, by {origin}: ours is not needed, as transport is {transport}")
    else:
        yield Fact("strategy", False, f"{strategy}, by {origin}: nothing is switched on, unless plays or variables do; "
                                      f"write strategy = {OURS}{strategy if strategy in STRATEGIES else 'linear'} "
                                      "under [defaults] in ansible.cfg")
    if transport.startswith(OURS):
        yield Fact("transport", True, f"{transport}, by {transport_origin}")
    if strategy in known and "StrategyModule" in inspect.getsource(plugins.PluginLoader.get):
        yield Fact("deprecation", None, _deprecation())
    paths = [path for path in C.DEFAULT_STRATEGY_PLUGIN_PATH or () if "mitogen" in path]
    if paths and not strategy.startswith("mitogen"):
        yield Fact("mitogen", None, f"is installed, in {paths[0]}, and used by no strategy here: it changes nothing")


def _deprecation() -> str:
    if not C.config.get_config_value("DEPRECATION_WARNINGS"):
        return "ansible-core's warning of all strategies but its own is silenced by deprecation_warnings = False"
    return ("this ansible-core warns of all strategies but its own; deprecation_warnings = False under [defaults] "
            f"silences that, and transport = {OURS}ssh works without a strategy")


def configured(name: str) -> tuple[str, str]:
    """A setting, and where it comes from."""
    value, origin = C.config.get_config_value_and_origin(name)
    origin = str(origin or "default")
    return str(value), "default" if origin == "default" else origin


def inventory(sources: list[str], pattern: str) -> tuple[list[Any], VariableManager, DataLoader]:
    """The hosts of an inventory that match a pattern. Raises AnsibleError."""
    loader = DataLoader()
    manager = InventoryManager(loader=loader, sources=sources or list(C.DEFAULT_HOST_LIST))
    variables = VariableManager(loader=loader, inventory=manager)
    return manager.get_hosts(pattern), variables, loader


def hosts(sources: list[str], pattern: str) -> Iterator[Host]:
    """What becomes of each host. Raises AnsibleError."""
    found, manager, loader = inventory(sources, pattern)
    if not found:
        raise AnsibleError(f"no host of the inventory matches {pattern!r}")
    for host in found:
        values = manager.get_vars(host=host, include_hostvars=True)
        templar = Templar(loader=loader, variables=values)
        yield judge(host.name, values, templar)


def judge(name: str, values: dict[str, Any], templar: Any) -> Host:
    """What becomes of one host."""

    def value(variable: str, default: Any = None) -> Any:
        try:
            found = templar.template(values.get(variable, default))
        except AnsibleError as error:
            return f"({variable}: {' '.join(str(error).split())})"
        return str.__str__(found) if isinstance(found, str) else found

    connection = value("ansible_connection", C.DEFAULT_TRANSPORT)
    connection = "ssh" if connection == "smart" else connection
    by = redirected(connection)
    why: list[str] = []
    if by == connection and not by.startswith(OURS):
        short = connection.rpartition(".")[2]
        if short in NETWORK:
            why.append("a network device: its modules run on the controller")
        elif not switched_on() and plugin_of(connection):
            why.append(f"nothing is switched on; {plugin_of(connection)} would do")
        elif plugins.connection_loader.find_plugin(OURS + short):
            why.append(f"{OURS}{short} is used where it is named only")
        else:
            why.append("we have no connection of this kind, or the collection that it is in is not installed")
        return Host(name, by, False, why, values)
    shell = value("ansible_shell_type", "sh")
    if shell in ("powershell", "cmd"):
        return Host(name, by, False, ["Windows"], values)
    if shell != "sh":
        why.append(f"shell {shell}: not all of its commands are recognised, the others run as in stock")
    if C.DEFAULT_KEEP_REMOTE_FILES:
        why.append("keep_remote_files: modules run as files, as in stock")
    why += become(value, values)
    return Host(name, by, True, why, values)


def become(value: Any, values: dict[str, Any]) -> Iterator[str]:
    """What is to be said of becoming another user."""
    if not value("ansible_become", C.DEFAULT_BECOME):
        return
    method = value("ansible_become_method", C.DEFAULT_BECOME_METHOD)
    plugin = plugins.become_loader.get(method)
    if plugin is None:
        yield f"become: there is no plugin {method}"
        return
    shell = plugins.get_shell_plugin("sh", C.DEFAULT_EXECUTABLE)
    try:
        for each in plugin, shell:
            each.set_options(var_options=values)
        way = ways.way_of(plugin, shell, "/bin/sh", "/bin/sh", C.DEFAULT_TIMEOUT)
    except Exception as error:  # a plugin of anybody's, options that mean nothing
        yield f"become by {method}: {' '.join(str(error).split())}"
        return
    if way is None:
        yield f"become by {method}, with these options: a command of the plugin's own for each task, as in stock"


def redirected(connection: str) -> str:
    """The connection plugin that is used in place of another, as things are switched on."""
    return (plugin_of(connection) or connection) if switched_on() else connection


def switched_on() -> bool:
    """Whether one of our strategies is what plays have by default."""
    return configured("DEFAULT_STRATEGY")[0].startswith(OURS)


def plugin_of(connection: str) -> str | None:
    """The plugin that our strategies use in place of a connection plugin, if there is one."""
    from . import redirect

    found = redirect.Redirect(plugins.connection_loader).find(connection)
    return found[0] if found else None


def connect(found: list[Host], timeout: float) -> Iterator[Fact]:
    """Open the link of each host that has one of ours, some at a time, and say what is there: a fact for each."""
    import contextree

    def one(name: str, plan: Any) -> Fact:
        start = time.monotonic()
        try:
            context = router.grow(plan)
            took = time.monotonic() - start
            round_trip = min(context.ping(timeout) for _ in range(3))
        except contextree.ContextreeError as error:
            return Fact(name, False, " ".join(str(error).split()))
        python = ".".join(map(str, context.facts["version"][:3]))
        return Fact(name, True, f"Python {python} at {context.facts['executable']}, there in {took:.2f} s, round trip "
                                f"{round_trip * 1000:.1f} ms")

    with contextree.Router() as router, ThreadPoolExecutor(PARALLEL) as pool:
        futures = []
        for host in found:
            if host.fast:
                try:
                    futures.append(pool.submit(one, host.name, link_of(host).plan))  # ansible's loader: one thread
                except Exception as error:  # of ansible's options, of the plugin
                    yield Fact(host.name, False, " ".join(str(error).split()) or type(error).__name__)
        for future in futures:
            yield future.result()


def link_of(host: Host) -> Any:
    """The link to a host, as its connection would ask for it."""
    keywords: dict[str, Any] = {"task_uuid": "", "ansible_playbook_pid": str(os.getpid())}
    connection = plugins.connection_loader.get(host.by, PlayContext(), None, **keywords)
    connection.set_options(var_options=host.variables)
    return connection.link()
