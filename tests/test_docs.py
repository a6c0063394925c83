"""The documents are true: what they show runs and prints what they say, every public name is there, links lead on.

A ``python`` block is a whole program, run in a process of its own. One whose first line is a comment with a file name
is that file, there for all programs of the document. A ``text`` block that follows is what the program before it
prints; ``...`` in it stands for anything. In ``sh`` blocks the lines that begin with ``contextree`` are run. Where
``web1`` is spoken of, it is the private sshd; where a program of the containers is, it is the private one, with
containers of the names that the documents have.
"""

import doctest
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

import contextree
from tests.lab import rootfs, shims
from tests.lab.containers import CannotStart

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
LIMIT = 50


class Block(NamedTuple):
    """A fenced block: its language, its text, the line it begins on, what it prints (None: not said)."""

    language: str
    text: str
    line: int
    prints: "str | None"

    @property
    def file(self):
        """The name of the file that this block is, if it is one."""
        found = re.match(r"# ([\w/]+\.py)\n", self.text)
        return found[1] if found else None


def blocks(page):
    """The fenced blocks of a page."""
    found = []
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        language, text = match[1], match[2]
        if language == "text" and found and found[-1].language == "python":
            found[-1] = found[-1]._replace(prints=text)
        else:
            found.append(Block(language, text, page.read_text().count("\n", 0, match.start()) + 2, None))
    return found


def programs(language):
    """All blocks to run, as parameters named by page and line."""
    return [pytest.param(page, block, id=f"{page.relative_to(ROOT)}:{block.line}")
            for page in PAGES for block in blocks(page) if block.language == language and not block.file]


@pytest.fixture
def run(request, tmp_path):
    """Run a command in a folder with the files of a page, ``web1`` being the private sshd if it is spoken of."""

    def run(page, text, command):
        for block in blocks(page):
            if block.file:
                (tmp_path / block.file).write_text(block.text)
        env = dict(os.environ, PYTHONPATH=str(ROOT), NO_COLOR="1")
        if "web1" in text:
            env["PATH"] = f"{ssh_to(request.getfixturevalue('sshd'), tmp_path)}:{env['PATH']}"
            if 'transport="paramiko"' in text:  # which reads the configuration itself
                env["HOME"] = str(tmp_path)
                (tmp_path / ".ssh").mkdir()
                (tmp_path / "ssh_config").rename(tmp_path / ".ssh" / "config")
        for name, tool in CONTAINERS.items():
            if f"router.{name}(" in text:
                env["PATH"] = f"{tool(request.getfixturevalue, tmp_path)}:{env['PATH']}"
        if "/opt/python" in text:
            (tmp_path / "program.py").write_text(text.replace("/opt/python", str(request.getfixturevalue("lent"))))
        return subprocess.run(command, cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=LIMIT)

    return run


def program(folder, name, words):
    """A folder for PATH with a program of that name, which is these words."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    words = [shutil.which(word) if word == name else word for word in words]  # or it would find itself
    (programs / name).write_text("#!/bin/sh\nexec %s \"$@\"\n" % shlex.join(words))
    (programs / name).chmod(0o755)
    return programs


def docker_to(fixture, folder):
    """Docker, with the containers ``app`` and ``bare``."""
    return program(folder, "docker", with_containers(fixture("docker_lab")).program)


def podman_to(fixture, folder):
    """Podman, with the same."""
    return program(folder, "podman", with_containers(fixture("podman_lab")).program)


def with_containers(lab):
    """The lab, in which there are containers of the documents."""
    if not lab.run("ps", "-q", "--filter", "name=^app$"):
        lab.run_container("app")
        lab.run_container("bare", image="bare", mounts=False)
    return lab


def buildah_to(fixture, folder):
    """Buildah, with the working container ``work``."""
    lab = fixture("podman_lab")
    try:
        lab.working_container(name="work")
    except CannotStart as error:
        if "already" not in str(error):
            pytest.skip(str(error))
    return program(folder, "buildah", lab.buildah)


def kubectl_to(fixture, folder):
    """Kubectl, with the pod ``web``."""
    return program(folder, "kubectl", ["env", "KUBECONFIG=" + fixture("kube_lab").kubeconfig, "kubectl"])


CONTAINERS = {"docker": docker_to, "podman": podman_to, "buildah": buildah_to, "kubectl": kubectl_to, **shims.SHIMS}


@pytest.fixture(scope="module")
def lent(tmp_path_factory):
    """A Python that can be lent."""
    return rootfs.standalone(tmp_path_factory.mktemp("lent") / "python")


def ssh_to(sshd, folder):
    """A folder for PATH with an ``ssh`` that knows a host ``web1``, as a line of ~/.ssh/config would have it."""
    config = folder / "ssh_config"
    config.write_text("Host web1\n  User %s\n\n%s" % (sshd.key_user, Path(sshd.ssh_config).read_text()))
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "ssh").write_text('#!/bin/sh\nexec /usr/bin/ssh -F "%s" "$@"\n' % config)
    (programs / "ssh").chmod(0o755)
    return programs


@pytest.mark.parametrize(("page", "block"), programs("python"))
def test_programs_run_and_print_what_is_said(page, block, run, tmp_path):
    (tmp_path / "program.py").write_text(block.text)
    done = run(page, block.text, [sys.executable, "program.py"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    if block.prints is None:
        return
    if not doctest.OutputChecker().check_output(block.prints, done.stdout, FLAGS):
        raise AssertionError("it should print\n%s\nand prints\n%s" % (block.prints, done.stdout))


@pytest.mark.parametrize(("page", "block"), programs("sh"))
def test_commands_run(page, block, run):
    lines = [line for line in block.text.splitlines() if line.startswith("contextree ")]
    assert lines, "nothing in it is run"
    for line in lines:
        done = run(page, line, ["/bin/sh", "-c", '"$0" -m %s' % line, sys.executable])
        assert done.returncode == 0, line + "\n" + done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#:]*)(?:#[\w-]*)?\)", text):
        assert (page.parent / target).exists(), target
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([\w-]*)\)", text):
        headings = re.findall(r"^#+ (.*)$", (page.parent / target if target else page).read_text(), re.MULTILINE)
        assert anchor in {slug(heading) for heading in headings}, (target, anchor)


def slug(heading):
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


# -- the reference

REFERENCE = ROOT / "docs" / "reference.md"
SIGNATURE = re.compile(r"^`([\w.]+)\((.*?)\)`", re.MULTILINE)


def test_reference_has_every_public_name_and_no_other():
    named = set()
    for line in re.findall(r"^#{2,3} `(.*)$", REFERENCE.read_text(), re.MULTILINE):
        named.update(re.findall(r"`?(\w+)`", "`" + line))
    assert named == set(contextree.__all__)


KINDS = [value for value in (getattr(contextree, name) for name in contextree.__all__)
         if inspect.isclass(value) and not issubclass(value, (Exception, str, tuple, dict))]


@pytest.mark.parametrize("kind", KINDS)
def test_reference_has_every_method(kind):
    text = REFERENCE.read_text()
    standard = {name for base in kind.__mro__ if not base.__module__.startswith("contextree") for name in vars(base)}
    for name in set(dir(kind)) - standard:  # what a standard Future or Executor has is told elsewhere
        documented = inspect.getdoc(inspect.getattr_static(kind, name))
        if not name.startswith("_") and documented and name not in INSIDE:
            assert f".{name}(" in text or f".{name}`" in text, f"{kind.__name__}.{name}"


INSIDE = {"begin_ping", "check_plan", "end_ping", "open_call", "pack_call", "pack_value",
          "service", "message", "end", "limit", "shared", "explain", "accept", "admit", "go_on", "greeted", "security",
          "start"}  # for the rest of contextree, not for its users


def test_reference_gives_signatures_as_they_are():
    found = SIGNATURE.findall(REFERENCE.read_text())
    assert len(found) > 20
    for name, text in found:
        thing = contextree
        for part in name.split("."):
            thing = getattr(thing, part)
        wanted = [re.sub("^_[A-Z][a-z]+__", "", parameter)  # positional only, as Python 3.6 has it
                  for parameter in inspect.signature(thing).parameters if parameter != "self"]
        given = [word.strip().lstrip("*").partition("=")[0].strip() for word in re.split(r",(?![^(]*\))", text)]
        given = [word for word in given if word]
        if "..." in given:
            given.remove("...")
            wanted = wanted[:len(given)]
        assert given == wanted, name


# -- docstrings

@pytest.fixture
def world():
    """What an example in a docstring finds: a router, and a child of it."""
    with contextree.Router() as router:
        yield {"contextree": contextree, "router": router, "web": router.local(name="web")}


@pytest.mark.parametrize("name", contextree.__all__)
def test_docstring_has_an_example_that_runs(name, world):
    text = inspect.getdoc(getattr(contextree, name))
    assert text, "no docstring"
    test = doctest.DocTestParser().get_doctest(textwrap.dedent(text), dict(world), name, None, 0)
    assert test.examples, "no example"
    said = []
    runner = doctest.DocTestRunner(optionflags=FLAGS | doctest.IGNORE_EXCEPTION_DETAIL)
    runner.run(test, out=said.append)
    assert runner.failures == 0, "".join(said)


DOOR = """
import doctest, importlib, sys
import contextree

module = importlib.import_module("contextree." + sys.argv[1])
runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
for test in doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs={"contextree": contextree}):
    runner.run(test)
print(runner.tries, runner.failures)
"""


@pytest.mark.parametrize("door", ["aio", "trio", "gevent", "cothread"])
def test_docstrings_of_the_doors_for_loops_run(door):
    """In a process of their own: what makes waiting cooperative stays for the life of the process."""
    done = subprocess.run([sys.executable, "-c", DOOR, door], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    tries, failures = map(int, done.stdout.split()[-2:])
    assert tries > 1 and failures == 0, done.stdout
