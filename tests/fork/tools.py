"""Programs in a process of their own, for tests of forks that must not happen in the process of pytest."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def program(text, *options, python=(sys.executable,), timeout=45, check=True, **more):
    """Run ``text`` with contextree importable; its output. It must end with 0 and say nothing on stderr."""
    env = dict(os.environ, PYTHONPATH=str(ROOT), **more.pop("env", {}))
    words = [*python, *options, "-c", text]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=timeout, **more)
    if check:
        assert done.returncode == 0 and not done.stderr, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout if check else done
