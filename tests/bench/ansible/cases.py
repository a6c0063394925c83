"""The playbooks that are measured. Each is written into a folder of its own, in JSON, which is YAML.

A case is a function of how many: it returns ``Case``. In its plays ``{{ dir }}`` is a folder of the host, empty when
the run begins (or with what ``before`` names in it), whose files are compared afterwards.
"""

import dataclasses
import json
import shutil
from pathlib import Path

ROLE = Path(__file__).with_name("role")
TEMPLATE = """\
# {{ item_name }} of {{ inventory_hostname }}
{% for number in range(20) %}
{% if number is divisibleby 3 %}
key{{ number }} = {{ number * 7 }} in {{ dir | basename }}
{% else %}
key{{ number }} = {{ (item_name ~ number) | upper }}
{% endif %}
{% endfor %}
"""
SMALL = "".join("line %d of a small file\n" % number for number in range(40))


@dataclasses.dataclass
class Case:
    """What is run: a playbook of ``plays``, or ``adhoc``: the words of the command ``ansible``."""

    plays: list = dataclasses.field(default_factory=list)
    files: dict = dataclasses.field(default_factory=dict)  # beside the playbook: name -> text
    before: dict = dataclasses.field(default_factory=dict)  # in the folder of each host: name -> text
    adhoc: tuple = ()
    role: bool = False
    local: bool = False  # no module runs on a host

    def write(self, folder):
        """Put the playbook and what it uses into a folder."""
        for name, text in {**self.files, "play.yml": json.dumps(self.plays, indent=1)}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        if self.role:
            shutil.copytree(ROLE, folder / "roles" / "app")


def play(*tasks, **more):
    """One play for all hosts."""
    return {"hosts": "all", "gather_facts": False, "tasks": list(tasks), **more}


def command(number):
    """A task that runs a command."""
    return {"name": "command %d" % number, "ansible.builtin.command": "echo %d" % number}


def tasks(count):
    """Command tasks, one after the other."""
    return Case([play(*map(command, range(count)))])


def debug(count):
    """Tasks that run no module: what the controller alone costs."""
    each = ({"name": "debug %d" % number, "ansible.builtin.debug": {"msg": number}} for number in range(count))
    return Case([play(*each)], local=True)


def copy(count, before):
    """A task that copies a file ``count`` times."""
    loop = {"ansible.builtin.copy": {"src": "small.txt", "dest": "{{ dir }}/{{ item }}.txt", "mode": "0644"}}
    loop.update(name="copy", loop=["%03d" % number for number in range(count)])
    there = {"%03d.txt" % number: SMALL for number in range(count)} if before else {}
    return Case([play(loop)], {"small.txt": SMALL}, there)


def copyloop(count):
    """A loop that copies files which are not there."""
    return copy(count, False)


def copysame(count):
    """A loop that copies files which are there already: nothing changes."""
    return copy(count, True)


def templates(count):
    """Tasks that fill in templates."""
    each = [{"name": "template %d" % number, "vars": {"item_name": "name%d" % number},
             "ansible.builtin.template": {"src": "some.j2", "dest": "{{ dir }}/%d.conf" % number, "mode": "0640"}}
            for number in range(count)]  # fmt: skip
    return Case([play(*each)], {"some.j2": TEMPLATE})


def facts(count):
    """Gathering all facts."""
    return Case([play(*({"name": "facts %d" % number, "ansible.builtin.setup": {}} for number in range(count)))])


def role(count):
    """A role as one finds them: facts, folders, templates, files, lines, commands, conditions, handlers."""
    names = ["app%d" % number for number in range(count)]
    return Case([play(gather_facts=True, roles=[{"role": "app", "app_name": name} for name in names])], role=True)


def become(count):
    """Tasks as root by sudo, of the kinds that are most used, in turn."""
    kinds = [
        {"ansible.builtin.command": "id -un"},
        {"ansible.builtin.copy": {"src": "small.txt", "dest": "{{ dir }}/%d.txt", "mode": "0600"}},
        {"ansible.builtin.template": {"src": "some.j2", "dest": "{{ dir }}/%d.conf", "mode": "0640"}},
        {"ansible.builtin.file": {"path": "{{ dir }}/%d.d", "state": "directory", "mode": "0750"}},
        {"ansible.builtin.lineinfile": {"path": "{{ dir }}/lines", "create": True, "line": "%d", "mode": "0644"}},
    ]
    each = [{"name": "%d" % number, "vars": {"item_name": "root"}, "become": True,
             **json.loads(json.dumps(kinds[number % len(kinds)]).replace("%d", str(number)))}
            for number in range(count)]  # fmt: skip
    return Case([play(*each)], {"small.txt": SMALL, "some.j2": TEMPLATE})


def cold(count):
    """Plays of one task, with facts not gathered: what starting costs."""
    return Case([play(command(number)) for number in range(count)])


def ping(_count):
    """``ansible all -m ping``: the smallest that there is."""
    return Case(adhoc=("all", "-m", "ping"))


# name -> (function, how many of it)
CASES = {
    "tasks": (tasks, 100),
    "copyloop": (copyloop, 100),
    "copysame": (copysame, 20),
    "templates": (templates, 20),
    "facts": (facts, 3),
    "role": (role, 2),
    "become": (become, 10),
    "cold": (cold, 1),
    "ping": (ping, 1),
    "debug": (debug, 100),
}
