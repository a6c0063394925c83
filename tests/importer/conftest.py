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

GUARD = """
if __name__ == '__main__':
    with contextree.Router() as router:
        main(router)
    print('good')
"""


@pytest.fixture
def master(tmp_path, pythons):
    """``master(files, body, *versions)`` runs ``body`` in a master that has ``files`` and us on its path.

    ``top`` stands before it; ``pythons`` there maps versions to commands; ``local(python=alone())`` sees none."""

    def run(files, body, *versions, top=""):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
        script = tmp_path / "main_script.py"
        body = textwrap.indent(textwrap.dedent(body), "    ")
        script.write_text(PRELUDE + top + "def main(router):\n" + body + GUARD)
        words = ["%s=%s" % (version, pythons[version].argv[0]) for version in versions]
        done = subprocess.run(
            [sys.executable, str(script), *words], cwd=tmp_path, capture_output=True, text=True, timeout=55,
            check=False, env=dict(os.environ, PYTHONPATH=ROOT, PYTHONDONTWRITEBYTECODE="1"),
        )  # fmt: skip
        assert done.returncode == 0 and done.stdout.endswith("good\n"), done.stdout + done.stderr
        return done.stderr

    return run
