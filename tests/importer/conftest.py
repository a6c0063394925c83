"""A master whose modules lie in a folder of the test's own, and children that do not see that folder."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = str(Path(__file__).resolve().parents[2])

PRELUDE = """\
import importlib, sys
import contextree
from tests.importer import probe

pythons = dict(word.split("=") for word in sys.argv if "=" in word)

def requests(router):
    return router.stats()["modules"]["requests"]

def alone(python=sys.executable):  # a Python that does not see what this one sees
    return [python, "-I"]

"""


@pytest.fixture
def master(tmp_path, pythons):
    """``master(files, body, *versions)`` runs ``body`` in a master that has ``files`` on its path (and this repository):
    ``top`` stands before it; ``pythons`` there maps versions to commands; a child of ``local(python=alone())`` sees neither."""

    def run(files, body, *versions, top=""):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
        script = tmp_path / "main_script.py"
        script.write_text(PRELUDE + top + "def main(router):\n" + textwrap.indent(textwrap.dedent(body), "    ")
                          + "\nif __name__ == '__main__':\n    with contextree.Router() as router:\n        main(router)\n"
                          + "    print('good')\n")
        words = ["%s=%s" % (version, pythons[version].argv[0]) for version in versions]
        done = subprocess.run([sys.executable, str(script), *words], cwd=tmp_path, capture_output=True, text=True, timeout=55,
                              env=dict(os.environ, PYTHONPATH=ROOT, PYTHONDONTWRITEBYTECODE="1"), check=False)  # fmt: skip
        assert done.returncode == 0 and done.stdout.endswith("good\n"), done.stdout + done.stderr
        return done.stderr

    return run
