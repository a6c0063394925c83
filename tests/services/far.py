"""What the tests of services have contexts do."""

import os
import threading

import contextree
from contextree.core import process


class Store:
    """An object that is served: some methods are exposed, one is not."""

    def __init__(self):
        self.items = {}
        self.closed = []
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)

    @contextree.expose
    def put(self, key, value):
        self.items[key] = value
        return len(self.items)

    @contextree.expose
    def get(self, key):
        return self.items[key]

    @contextree.expose
    def whoami(self):
        caller = contextree.current_call().caller
        return caller.id, caller.name

    @contextree.expose
    def echo(self, *args, **kwargs):
        return [list(args), kwargs]

    @contextree.expose
    def same(self, value):
        return value

    @contextree.expose
    def fail(self, *args):
        raise LookupError(*args)

    @contextree.expose
    def wait(self):
        self.entered.release()
        self.gate.wait(20)
        return "done"

    @contextree.expose
    def count(self, number):
        try:
            yield from range(number)
        finally:
            self.closed.append(number)

    @contextree.expose
    async def slowly(self, value, seconds=0.0):
        import asyncio

        self.entered.release()
        try:
            await asyncio.sleep(seconds)  # sleeps: it is what this method does
        finally:
            self.closed.append(value)
        return value, contextree.current_call().caller.name

    @contextree.expose
    async def rows(self, number):
        for item in range(number):
            yield item

    @contextree.expose
    def until_cancelled(self):
        self.entered.release()
        self.closed.append(contextree.current_call().wait_cancelled(20))

    @contextree.expose
    def odd(self):
        return threading.Lock()

    def secret(self):
        return "never"


class Point:
    """A class of the caller's module: only trusted callers may send one."""

    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return self.x == other.x

    __hash__ = None


def call(service, method, *args, **kwargs):
    return service.call(method, *args, **kwargs)


def whoami(service):
    return service.call.whoami()


def stream(service, number):
    return list(service.stream.count(number))


def stream_of(service, method, *args):
    return list(service.stream(method, *args))


def first_of(service, number):
    """Take a few items of a stream and close it."""
    with service.stream.count(number) as items:
        return [next(items) for _ in range(3)]


def serve(name="far", **options):
    return contextree.current_router().serve(name, Store(), **options)


def close(service):
    service.close()


WAITING = []


def caller_of(service):
    WAITING.append(service.submit.until_cancelled())


def give_up():
    WAITING.pop().cancel()


def grow(name):
    return contextree.current_router().fork(name=name)


def grant_own(service, context):
    contextree.current_router().grant_service(service, context)


def send_point(service):
    return service.call.same(Point(4)).x


def call_in(context, function, *args):
    return context.call(function, *args)


def police():
    return dict(contextree.current_router().engine.count)


def flood(service, number):
    """So many calls at once; how many were answered, and what became of the others."""
    futures = [service.submit.same(n) for n in range(number)]
    errors = [type(future.exception(30)).__name__ for future in futures]
    return errors.count("NoneType"), sorted(set(errors) - {"NoneType"})


def submit_wait(service):
    service.submit.wait()


def keep_stream(service):
    """Take one item and keep the stream; it ends with this process."""
    process.keep.append(iter(service.stream.count(10**6)))
    return next(process.keep[-1])


def leave():
    os._exit(3)


def join_and_ask(invitation):
    with contextree.join(invitation) as client:
        name = client.services["store"].call.whoami()[1]
        return client.name, name, contextree.current_router().name


def listen_here():
    """A listener here, with an invitation to a service here."""
    router = contextree.current_router()
    listener = router.listen()
    process.keep.append(listener)
    return listener.invite(services=[router.serve("below", Store())], contexts=router.contexts)


ENDED = []


def endless():
    try:
        number = 0
        while True:
            yield number
            number += 1
    finally:
        ENDED.append(1)


def ended():
    return bool(ENDED)


def endless_wait():
    threading.Event().wait()
