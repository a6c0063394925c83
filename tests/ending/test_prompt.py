"""At the prompt of an interpreter, and where contextree cannot run at all."""

import os
import pty
import re
import select
import subprocess
import sys

from tests.lab.poll import until
from tests.lab.pythons import ROOT

AT_THE_PROMPT = """
import logging, sys, contextree
logging.basicConfig(stream=sys.stdout, format="%(name)s says %(message)s")
router = contextree.Router()
child = router.local()
def later():
    import logging, threading
    threading.Timer(0.2, logging.getLogger("far").warning, ["from afar"]).start()
timer = lambda: print("the timer fired")
"""


def test_ct_26_a_prompt_that_waits_stops_nothing():
    """Nothing is typed while the child logs and a timer of the loop fires."""
    master, slave = pty.openpty()
    environ = dict(os.environ, PYTHONPATH=str(ROOT), TERM="dumb", PYTHON_BASIC_REPL="1")
    process = subprocess.Popen([sys.executable, "-q", "-i", "-c", AT_THE_PROMPT], stdin=slave, stdout=slave,
                               stderr=slave, env=environ, start_new_session=True)
    os.close(slave)
    seen = b""

    def read(wanted):
        nonlocal seen
        if select.select([master], [], [], 0.05)[0]:
            try:
                seen += os.read(master, 65536)
            except OSError:  # nobody has the terminal open any more
                pass
        return re.search(wanted, seen)

    try:
        until(lambda: read(rb">>> "), "the prompt")
        os.write(master, b"router.broker.defer(lambda: router.broker.timer(0.2, timer)); child.call(later)\r")
        until(lambda: read(rb"the timer fired\r"), "the timer, while the prompt waits")
        until(lambda: read(rb"says from afar\r"), "the log of the child, while the prompt waits")
        os.write(master, b"\x04")
        until(lambda: read(rb"^") and process.poll() is not None, "its end")
        assert process.returncode == 0, seen
        assert b"Traceback" not in seen
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_ct_24_on_windows_importing_says_that_it_does_not_run_there():
    """The rest of contextree is not even looked at."""
    code = """
import sys
sys.platform = "win32"
try:
    import contextree
except ImportError as error:
    print(type(error).__name__, error)
print(sorted(name for name in sys.modules if name.startswith("contextree")))
"""
    run = subprocess.run([sys.executable, "-c", code], env=dict(os.environ, PYTHONPATH=str(ROOT)), text=True,
                         capture_output=True, check=True)
    first, modules = run.stdout.splitlines()
    assert first.startswith("UnsupportedPlatform contextree does not run on Windows")
    assert "contextree.core.process" not in modules and "contextree.master" not in modules
