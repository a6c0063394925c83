"""A tree under attack: a root, an honest sibling, a hostile child, and what the root noticed.

The tree of a module is shared; the hostile child is a new one for each test, and after each the root must be well: its
sibling answers, no error came out of the loop's callbacks, no channel is left."""

import logging
import threading

import pytest

import contextree
from contextree.core import process
from contextree.parent import boot
from contextree.parent.importer import THREADS
from contextree.testing import ScriptedChild
from tests.attacks import functions
from tests.lab.poll import until


class Security(logging.Handler):
    """Keeps what is logged; ``texts`` of the security log, ``records`` of all loggers of contextree."""

    def __init__(self):
        super().__init__(1)
        self.records = []

    def emit(self, record):
        self.records.append(record)

    @property
    def texts(self):
        return [record.getMessage() for record in self.records if record.name == "contextree.security"]

    def of(self, name):
        return [record for record in self.records if record.name == name]


class Tree:
    """``router``, its honest child ``sibling``, and the log."""

    def __init__(self, router, log):
        self.router = router
        self.engine = router.engine
        self.broker = router.broker
        self.sibling = router.local(name="sibling")
        self.log = log
        self.errors = []
        self.warm_up()

    def warm_up(self):
        """Have every thread that the engine starts when it is first needed started now: the guard looks at each
        test."""
        self.engine.on_security(self.sibling.id, "nothing, this is only to start the thread that logs")
        waiter = process.Waiter()
        self.engine.later(waiter.wake)
        assert waiter.wait(10)
        self.router.fork().shutdown()  # the template
        modules = self.engine.modules
        while modules.threads < THREADS:
            modules.threads += 1
            process.start_thread(modules.work, ())
        until(lambda: self.log.texts, "the first log line")
        until(lambda: len(modules.jobs.waiters) == THREADS, "the threads to run")

    def hostile(self, **options):
        return ScriptedChild(self.router, options.pop("name", "hostile"), **options)

    def link(self, child):
        """The root's end of a scripted child's link."""
        return self.engine.children[child.id].link

    def police(self):
        return dict(self.engine.count)

    def settled(self):
        """Everything that came before has been dealt with: the loop has taken a turn."""
        for _ in range(2):
            self.broker.call(lambda: None)

    def barrier(self, child):
        """What ``child`` wrote has been dealt with: the parent has answered a PING that was sent behind it."""
        from contextree.core.wire.frames import PING, PONG

        assert child.send(PING, channel=0xbead)
        return child.wait_for(PONG, lambda frame: frame.channel == 0xbead)

    def complaint(self, text):
        """Wait until the security log has ``text`` in it."""
        return until(lambda: [line for line in self.log.texts if text in line], "a line in the security log: %s" % text)

    def check(self):
        """The root is well."""
        assert self.sibling.call(functions.echo, "well") == "well"
        assert self.broker.stats()["errors"] == 0, self.errors
        self.settled()
        assert not self.engine.core.channels and not self.engine.core.pings
        assert [info.name for info in self.engine.infos.values()] == ["sibling"]


@pytest.fixture(scope="module")
def whole_tree():
    news, boot.NEWS = boot.NEWS, 0.1  # a scripted child never ends before its link: nobody is to wait a second for that
    log = Security()
    logger = logging.getLogger("contextree")
    logger.addHandler(log)
    logger.propagate = False
    logger.setLevel(1)
    with contextree.Router(log_level=logging.DEBUG) as router:
        tree = Tree(router, log)

        def on_error(function):
            import traceback

            tree.errors.append(traceback.format_exc())

        router.broker.on_error = on_error
        yield tree
    boot.NEWS = news
    logger.removeHandler(log)
    logger.propagate = True
    logger.setLevel(logging.NOTSET)
    assert threading.current_thread() is threading.main_thread()


@pytest.fixture
def tree(whole_tree):
    whole_tree.log.records.clear()
    whole_tree.engine.count.update(dict.fromkeys(whole_tree.engine.count, 0))
    whole_tree.engine.core.count.update(dict.fromkeys(whole_tree.engine.core.count, 0))
    yield whole_tree
    whole_tree.check()


@pytest.fixture
def hostile(tree):
    with tree.hostile() as child:
        yield child
