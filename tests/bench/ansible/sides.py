"""Who takes part: how ``ansible.cfg`` and the environment differ. Everything else is the same for all."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

# name -> what it is, for the table
SIDES = {
    "stock": "Ansible as it comes: ControlPersist, no pipelining",
    "pipelining": "Ansible with pipelining and ControlPersist",
    "mitogen": "strategy mitogen_linear",
    "connection": "connection contextree.fast.ssh under the stock strategy",
    "strategy": "strategy contextree.fast.linear",
}
OURS = ("connection", "strategy")


def settings(side, where):
    """{section: {key: value}} of ansible.cfg beyond what all have. ``where``: the folder of site-packages."""
    if side == "pipelining":
        return {"ssh_connection": {"pipelining": "True"}}
    if side == "mitogen":
        plugins = Path(where) / "ansible_mitogen" / "plugins" / "strategy"
        return {"defaults": {"strategy": "mitogen_linear", "strategy_plugins": plugins}}
    if side == "connection":
        return {"defaults": {"transport": "contextree.fast.ssh"}}
    if side == "strategy":
        return {"defaults": {"strategy": "contextree.fast.linear"}}
    return {}


def environment(side, collections, base):
    """Variables of the environment beyond what all have; ``collections``: a folder with ansible_collections in it;
    ``base``: the folder of the run."""
    if side not in OURS:
        return {}
    return {"ANSIBLE_COLLECTIONS_PATH": str(collections), "PYTHONPATH": "%s:%s" % (ROOT, collections),
            "ANSIBLE_CONTEXTREE_STATS": str(base / "statistics")}  # fmt: skip


def absent(side, where):
    """Why it cannot take part, or None."""
    if side == "mitogen" and not (Path(where) / "ansible_mitogen").is_dir():
        return "mitogen is not installed beside that ansible"
    return None


def collections(folder):
    """Make ``folder`` one where Ansible finds the collection of this source tree."""
    below = folder / "ansible_collections" / "contextree"
    below.mkdir(parents=True)
    (below / "fast").symlink_to(ROOT / "ansible_plugin")
    return folder
