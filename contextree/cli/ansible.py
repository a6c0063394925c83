"""``contextree ansible``: what the Ansible collection does for a user's setup.

The collection itself looks (``controller/doctor.py`` in it), imported by ansible's own loader, so that what is said is
true of the collection that a playbook would get."""

import importlib
import json
import os
import shutil
import sys
from typing import Any

import click

from contextree.cli.targets import version

VERDICT = {True: click.style("ok   ", fg="green"), None: "note ", False: click.style("WRONG", fg="red")}
MOST_NAMES = 4  # of hosts that are alike
Row = tuple[str, bool | None, str]


@click.group()
def ansible() -> None:
    """The Ansible collection contextree.fast."""


@ansible.command()
@click.argument("pattern", default="all")
@click.option("-i", "--inventory", multiple=True, help="Inventory, as for ansible-playbook; may be repeated.")
@click.option("--connect", is_flag=True, help="Open a link to each host too, and say what Python is there.")
@click.option("--connect-timeout", type=click.FloatRange(0, min_open=True), default=30, show_default=True,
              metavar="SECONDS", help="For the answer of a host that is connected.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def doctor(pattern: str, inventory: tuple[str, ...], connect: bool, connect_timeout: float, as_json: bool) -> int:
    """Say what contextree.fast accelerates in this setup and what not, and why. PATTERN chooses hosts.

    It reads the ansible.cfg, environment and inventory that ansible-playbook would read here; what plays say themselves
    (strategy, connection, become) it cannot know. Nothing is connected to without --connect.

    Exit status 1 when nothing is accelerated, or when a host could not be connected.
    """
    found = look(pattern, list(inventory), connect, connect_timeout)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for what, ok, text in rows(found):
            click.echo(f"{VERDICT[ok]}  {what:<16}  {text}")
    return 0 if found["ok"] else 1


def look(pattern: str, inventory: list[str], connect: bool, timeout: float) -> dict[str, Any]:
    """All that is to be said, as it is in the JSON document."""
    found: dict[str, Any] = {"contextree": version(), "setup": [], "hosts": [], "ok": False}
    setup: list[dict[str, Any]] = found["setup"]
    try:
        importlib.import_module("ansible")
        loader = importlib.import_module("ansible.plugins.loader")
    except ModuleNotFoundError as error:
        if error.name != "ansible":
            raise
        setup.append(fact("ansible-core", False, _no_ansible()))
        return found
    except Exception as error:  # noqa: BLE001  # an ansible.cfg that cannot be read, a locale that it does not like
        setup.append(fact("ansible-core", False, " ".join(str(error).split())))
        return found
    loader.init_plugin_loader()
    try:
        ready = importlib.import_module("ansible_collections.contextree.fast.controller.ready")
        collection = importlib.import_module(ready.package() + ".controller.doctor")
    except ModuleNotFoundError:
        paths = ", ".join(_collection_paths())
        setup.append(fact("collection", False, f"contextree.fast is nowhere where ansible looks: {paths}"))
        return found
    setup += [fact(*each) for each in collection.setup()]
    try:
        hosts = list(collection.hosts(inventory, pattern))
    except Exception as error:  # noqa: BLE001  # of the inventory: plugins, scripts, YAML
        setup.append(fact("inventory", False, " ".join(str(error).split())))
        return found
    links = {each.what: each for each in collection.connect(hosts, timeout)} if connect else {}
    for host in hosts:
        row = {"host": host.name, "connection": host.by, "accelerated": host.fast, "notes": host.why}
        if host.name in links:
            row.update(connected=links[host.name].ok, found=links[host.name].text)
        found["hosts"].append(row)
    wrong = any(each["ok"] is False for each in setup) or any(row.get("connected") is False for row in found["hosts"])
    found["ok"] = not wrong and any(row["accelerated"] for row in found["hosts"])
    return found


def fact(what: str, ok: bool | None, text: str) -> dict[str, Any]:
    """A row of the document."""
    return {"what": what, "ok": ok, "text": text}


def rows(found: dict[str, Any]) -> list[Row]:
    """The lines for people: hosts that are alike are one."""
    lines: list[Row] = [("contextree", True, f"{found['contextree']} in {os.path.dirname(os.path.dirname(__file__))}")]
    lines += [(each["what"], each["ok"], each["text"]) for each in found["setup"]]
    alike: dict[tuple[bool | None, str], list[str]] = {}
    for row in found["hosts"]:
        how = f"by {row['connection']}" if row["accelerated"] else f"as in stock, by {row['connection']}"
        ok = True if row["accelerated"] and not row["notes"] else None
        if "connected" in row:
            lines.append((row["host"], row["connected"], row["found"]))
        alike.setdefault((ok, "; ".join([how, *row["notes"]])), []).append(row["host"])
    for (ok, text), names in alike.items():
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        lines.append(("hosts", ok, f"{', '.join(names[:MOST_NAMES])}{more}: {text}"))
    if found["hosts"]:
        fast = sum(row["accelerated"] for row in found["hosts"])
        lines.append(("in all", fast > 0, f"{fast} of {len(found['hosts'])} hosts are accelerated"))
    return lines


def _no_ansible() -> str:
    said = f"ansible-core is not installed for {sys.executable}: pip install 'contextree[ansible]'"
    other = shutil.which("ansible-playbook")
    return f"{said}, or install contextree where {other} runs" if other else said


def _collection_paths() -> list[str]:
    """The folders below which ansible looks for collections."""
    finder = importlib.import_module("ansible.utils.collection_loader").AnsibleCollectionConfig
    return list(finder.collection_paths)
