"""The playbooks that are run under stock and under ours: with which hosts, options and cores, and what they must do."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.ansible.cores import NEWEST, PYTHONS
from tests.ansible.lab import ADDRESSES, Lab, target_pythons

EVERY = tuple(PYTHONS)
Hosts = dict[str, dict[str, Any]]
TWO: Hosts = {"h1": {}, "here": {}}
FAR: Hosts = {"h1": {}, "h2": {}, "h3": {}}


def one_and_here(_lab: Lab, _core: str) -> Hosts:
    """A host and the controller."""
    return TWO


def three(_lab: Lab, _core: str) -> Hosts:
    """Three hosts."""
    return FAR


def everybody(_lab: Lab, _core: str) -> Hosts:
    """Three hosts, the controller, and one where nothing listens."""
    return {**FAR, "here": {}, "absent": {}}


def ways(lab: Lab, _core: str) -> Hosts:
    """Accounts with other shells, a password, and variables that are templates."""
    shells = {name: user for name, user in lab.sshd.shell_users.items() if name in ("tcsh", "fish", "zsh")}
    found: Hosts = {"h1": {}, "h2": {}}
    found["pw3"] = {"ansible_user": lab.sshd.password_user, "ansible_password": lab.sshd.password,
                    "ansible_ssh_common_args": "-o PubkeyAuthentication=no"}
    for number, (name, user) in enumerate(shells.items(), 4):
        found["%s%d" % (name, number)] = {"ansible_user": user}
    found["tpl8"] = {"ansible_host": "{{ addresses[7] }}", "ansible_port": "{{ port + 0 }}",
                     "ansible_user": "{{ users.one }}", "users": {"one": lab.sshd.key_user},
                     "addresses": list(ADDRESSES), "port": lab.sshd.port}
    return found


def becoming(lab: Lab, _core: str) -> Hosts:
    """Accounts that may become others without a password, and with one."""
    return {"bob1": {"ansible_user": lab.accounts.bob},
            "ann1": {"ansible_user": lab.accounts.ann, "ansible_become_password": lab.accounts.password}}


def bare(_lab: Lab, _core: str) -> Hosts:
    """A host without Python."""
    return {"bare9": {"ansible_python_interpreter": None}}


def every_python(lab: Lab, core: str) -> Hosts:
    """One account for each Python; those that are too old for the core too."""
    found: Hosts = {}
    wanted = ("3.6", "3.7", "3.8") if core == "2.16" else ("3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
    for number, (minor, path) in enumerate(target_pythons(*wanted).items(), 1):
        found["py%d" % number] = {"ansible_user": lab.sshd.python_users[minor], "ansible_python_interpreter": path}
    if core == NEWEST:
        for number, minor in enumerate(lab.new_pythons, 10):
            found["new%d" % number] = {"ansible_python_interpreter": "/usr/bin/python" + minor}
    return found


def discovering(_lab: Lab, core: str) -> Hosts:
    """Every mode of looking for the interpreter."""
    modes = ["auto", "auto_silent", None, *(["auto_legacy", "auto_legacy_silent"] if core != NEWEST else [])]
    return {"h%d" % number: {"ansible_python_interpreter": mode} for number, mode in enumerate(modes, 1)}


def nothing(_lab: Lab) -> dict[str, Any]:
    """No variables."""
    return {}


def of_ways(lab: Lab) -> dict[str, Any]:
    """Another account, and the Python of a virtual environment (a link, as they are)."""
    return {"other_user": lab.sshd.noisy_user, "venv": lab.venv(), "unused": ADDRESSES[6]}


def of_becoming(lab: Lab) -> dict[str, Any]:
    """Whom one becomes."""
    return {"dan": lab.accounts.dan, "target_password": lab.accounts.target_password}


@dataclass(frozen=True)
class Case:
    """A playbook and how it is run. ``rows``: results that there are at least; ``modules``: how many
    modules ours must have run in its own way, at least; ``status``: how ansible-playbook ends."""

    name: str
    rows: int
    modules: int
    playbook: str = ""
    cores: tuple[str, ...] = (NEWEST,)
    hosts: Callable[[Lab, str], Hosts] = one_and_here
    variables: Callable[[Lab], dict[str, Any]] = nothing
    status: int = 0
    statuses: dict[str, int] = field(default_factory=dict)  # where it is another one under some cores
    end: str = "the end"
    strategy: str = "linear"
    order: bool = True
    timed: bool = False
    plain: bool = False  # pipelining is not asked for; then what stock does without it is right too
    leaves: bool = False  # stock leaves something behind; ours may leave the same, and nothing else
    play: dict[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """The playbook's file."""
        return self.playbook or self.name + ".yml"


CASES = [
    Case("modules", 96, 60, cores=EVERY),
    Case("files", 140, 100, cores=EVERY),
    Case("said", 64, 40, cores=EVERY, leaves=True),
    Case("asynchronous", 60, 10, cores=EVERY, timed=True, leaves=True),
    Case("pythons", 18, 12, cores=EVERY, hosts=every_python, status=2, statuses={"2.16": 0}, timed=True),
    Case("commands", 100, 60),
    Case("flow", 240, 100, hosts=everybody, status=4),
    Case("facts", 50, 40),
    Case("ways", 70, 30, hosts=ways, variables=of_ways),
    Case("become", 14, 3, hosts=becoming, variables=of_becoming),
    Case("discovery", 15, 10, cores=(NEWEST, "2.16"), hosts=discovering),
    Case("bare", 11, 0, hosts=bare),
    Case("reboot", 7, 4, hosts=three),
    Case("free", 30, 15, playbook="order.yml", hosts=three, status=2, strategy="free", order=False),
    Case("host_pinned", 30, 15, playbook="order.yml", hosts=three, status=2, strategy="host_pinned", order=False),
    Case("debug", 30, 15, playbook="order.yml", hosts=three, status=2, strategy="debug",
         play={"typed": "continue\n" * 9}),
    Case("one fork", 30, 15, playbook="order.yml", hosts=three, status=2, play={"forks": 1}),
    Case("check", 20, 8, playbook="options.yml", hosts=three, play={"args": ("--check", "--diff")}),
    Case("tags", 6, 4, playbook="options.yml", hosts=three,
         play={"args": ("--tags", "one,rare", "--skip-tags", "two", "--limit", "h1", "-e", "given=this")}),
    Case("verbose", 10, 8, playbook="options.yml", hosts=three, play={"args": ("-v", "--limit", "h1")}),
    Case("modules as by default", 96, 60, playbook="modules.yml", plain=True),
    Case("files as by default", 140, 100, playbook="files.yml", plain=True),
]
