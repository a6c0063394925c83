"""What begins while its context ends: the engine that it needs is made late, and lets nothing begin."""

import os
import threading
import time

import contextree
from tests.lab.poll import until


def begin_while_it_ends(path):
    """Have the engine of this context made by what starts a child, at a moment when the context's end has begun and
    found none; and write down what came of that."""
    from contextree.core import main as life
    from contextree.parent import engine

    said = []

    def begin():
        try:
            said.append("began as %d" % contextree.current_router().local().pid)
        except contextree.ContextreeError as error:
            said.append(type(error).__name__)

    with engine.making:
        assert life.child.router.engine is None
        thread = threading.Thread(target=begin)
        thread.start()
        open(path + ".waits", "w").close()
        while life.child.leaving is None:
            time.sleep(0.001)  # sleeps: this lock is what the end is to be held up by
        assert life.child.router.engine is None
    thread.join()
    said.append(str(life.child.router.engine.ending))
    with open(path + ".new", "w") as file:
        file.write(" ".join(said))
    os.rename(path + ".new", path)


def test_an_engine_that_is_made_while_its_context_ends_lets_nothing_begin(router, tmp_path):
    path = tmp_path / "said"
    context = router.local()
    call = context.submit(begin_while_it_ends, str(path))
    until(tmp_path.joinpath("said.waits").exists, "it to wait for the end")
    context.shutdown()
    call.exception()  # by now it has returned, or was cut off
    assert path.read_text() == "Closed True"
