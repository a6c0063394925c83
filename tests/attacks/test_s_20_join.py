"""S-07, S-20, S-22, S-23, S-30: who connects to the listener, and what a client, or a child, does to services."""

import contextlib
import os
import pickle
import resource

import pytest

import contextree
from contextree.core.wire import values
from contextree.core.wire.frames import (
    BULK, CALL, CALLS, CHANNEL, DATA, FIN, GOAWAY, IDS, LOG, LOGS, MODULES, MORE, NUMBER, OPEN, OPENER, OPEN_HEAD, PING,
    RESET, RESOURCE, ROUTE_ADD, ROUTE_DEL, SHARE, STREAM,
)
from contextree.parent.knock import GREETING
from contextree.parent.lines import PARTIAL, Lines
from contextree.parent.listen import PENDING
from contextree.parent.routing import USE, USE_STREAM
from tests.attacks import functions
from tests.lab.poll import until
from tests.services import far
from tests.services.scripted import ScriptedClient, closed_by_peer, greeting, in_fork, knock

pytestmark = pytest.mark.leaks("the tree of the module, whose services start threads when they are needed")


@pytest.fixture
def listener(tree):
    with tree.router.listen(deadline=1.0) as listener:
        yield listener


@pytest.fixture
def store(tree):
    store = far.Store()
    with tree.router.serve("store", store, max_request=1 << 20) as service:
        service.store = store
        yield service
        store.gate.set()


@pytest.fixture
def client(tree, store, listener):
    with ScriptedClient(listener.invite(services=[store])) as client:
        yield client
    until(lambda: not tree.engine.guests, "the client to be gone")


def use(child, service, method, *args, number=None, channel=1, kind=USE, data=None, **fields):
    """Write a call of a method as an honest client that is not trusted does."""
    data = b"\0" + values.encode([method, list(args), {}]) if data is None else data
    number = service.number if number is None else number
    return child.open(kind, data, channel=channel, threads=number, dst=0, **fields)


def result(child, channel=1):
    frame = child.wait_for(DATA, lambda frame: frame.channel == channel)
    if frame.payload[0] == 4:
        return values_of(frame.payload[1:])[1]
    return values_of(frame.payload[1:])


def values_of(data):
    from contextree.parent.values import decode

    return decode(data)


def worst_ping(tree, count=200):
    """The 99th of a hundred times to the sibling and back."""
    times = sorted(tree.sibling.ping(10) for _ in range(count))
    return times[count * 99 // 100]


# -- at the door


def test_s_20_five_hundred_silent_connections_harm_nobody(tree, store, listener):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(2048, hard)), hard))
    quiet = worst_ping(tree)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(knock(listener.path)) for _ in range(500)]
        assert worst_ping(tree) < max(0.05, 5 * quiet)  # 50 ms, or what a busy machine makes of them
        assert listener.stats()["pending"] <= PENDING
        with contextree.join(listener.invite(services=[store])) as client:
            assert client.services["store"].call.same(1) == 1
        for sock in silent[:50]:
            with contextlib.suppress(OSError):
                sock.sendall(b"ctx")  # a word and no more
        assert all(closed_by_peer(sock) for sock in silent), "each within the deadline"
        stats = listener.stats()
        assert stats["late"] + stats["crowded"] >= 499 and stats["pending"] == 0 and stats["joined"] == 1
        assert stats["late"] > 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_s_20_a_trickle_does_not_put_the_deadline_off(listener):
    data = list(greeting(b"x" * 48)[:-1])
    with knock(listener.path) as sock:

        def trickle():
            if data:
                with contextlib.suppress(OSError):
                    sock.sendall(bytes([data.pop(0)]))
            return listener.stats()["late"]

        until(trickle, "the deadline", 10)
        assert closed_by_peer(sock) and listener.stats()["refused"] == 0


@pytest.mark.parametrize("data", [
    b"GET / HTTP/1.1\r\n\r\n", b"\0" * 200, b"ctxjoin2" + b"x" * 100, greeting(b"x" * 48),
    greeting(b"x" * 48, size=65535), greeting(b"x" * 48) + b"more", greeting(b"x" * 48, facts=[1])], ids=str)
def test_s_20_bad_greetings_are_refused(tree, listener, data):
    with knock(listener.path) as sock:
        sock.sendall(data)
        head = sock.recv(5)
        assert head[:1] == b"-" and sock.recv(1000)
        assert closed_by_peer(sock)
    assert listener.stats()["refused"] == 1 and not listener.guests
    tree.complaint("somebody wanted to join")


def test_s_20_facts_are_checked(tree, store, listener):
    invitation = listener.invite(services=[store])
    for facts in ([1], "x", {"pid": "\x1b[2J", "version": ["a"] * 3, "executable": 7, "uid": -1, "x": {}}):
        with knock(listener.path) as sock:
            sock.sendall(greeting(invitation.token, facts))
            assert sock.recv(1) == (b"+" if type(facts) is dict else b"-")
            if type(facts) is dict:
                (guest,) = listener.guests
                assert set(tree.engine.infos[guest.id].facts) == {"pid", "uid", "method"}
    until(lambda: not listener.guests, "it to be gone")
    with knock(listener.path) as sock:
        sock.sendall(GREETING.pack(b"ctxjoin1", invitation.token[:16], invitation.token[16:], 3) + b"\xc1\xc1\xc1")
        assert sock.recv(1) == b"-"


def test_s_20_tokens_cannot_be_mixed_or_cut(listener):
    one, two = listener.invite().token, listener.invite().token
    for token in (one[:16] + two[16:], one[:-1] + bytes([one[-1] ^ 1]), b"\0" * 48, one[:16] + b"\0" * 32):
        with pytest.raises(contextree.AuthenticationError, match="not valid"):
            contextree.join(contextree.Invitation(listener.path, token))
    assert one.hex() not in repr(listener.invite()) + repr(listener)


def test_s_20_too_many_clients_are_told_so(tree, store):
    with tree.router.listen(limit=2) as listener:
        invitation = listener.invite(services=[store])
        with contextree.join(invitation), contextree.join(invitation), \
                pytest.raises(contextree.AuthenticationError, match="2 clients have joined already"):
            contextree.join(invitation)
        until(lambda: not listener.guests, "them to be gone")
        with contextree.join(invitation):
            pass
    until(lambda: not tree.engine.guests, "it to be gone")


def test_s_20_no_descriptors_left(tree, store, listener):
    """The loop neither spins nor stops, and goes on when there are some again."""
    out, into = os.pipe()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.open(os.devnull, os.O_RDONLY)
    os.close(spare)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(into)
            socks = [knock(listener.path) for _ in range(40)]
            os.read(out, 1)
            assert socks
        finally:
            os._exit(0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 3, hard))
    try:
        until(lambda: listener.stats()["crowded"] > 3, "descriptors to run out")
        turns = tree.broker.stats()["turns"]
        for _ in range(50):
            assert tree.sibling.ping(10)
        assert tree.broker.stats()["turns"] - turns < 20000
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    os.close(into)
    os.close(out)
    os.waitpid(pid, 0)
    with contextree.join(listener.invite(services=[store])) as client:
        assert client.services["store"].call.same(2) == 2
    until(lambda: not tree.engine.guests, "it to be gone")


def test_s_22_who_a_client_is_the_kernel_says(tree, store, listener):
    invitation = listener.invite(services=[store])
    with ScriptedClient(invitation, facts={"pid": 1, "uid": 12345, "method": "root", "started": 1.0}) as client:
        facts = tree.engine.infos[client.id].facts
        assert facts["pid"] == os.getpid() and facts["uid"] == os.geteuid() and facts["method"] == "join"
        assert client.name == "client.%d" % os.getpid()

    def joined():
        with contextree.join(invitation) as client:
            return client.name == "client.%d" % os.getpid()

    assert in_fork(joined) == "True"
    until(lambda: not tree.engine.guests, "them to be gone")


# -- inside


def test_s_23_a_client_gets_what_its_token_grants_and_nothing_else(tree, store, client):
    other = tree.router.serve("other", far.Store())
    sent = 0
    for dst in (0, tree.sibling.id):
        for kind in (CALL, STREAM, CHANNEL, MODULES, RESOURCE, SHARE, 99):
            client.open(kind, b"x" * 20, dst=dst, channel=100 + sent)
            sent += 1
    for kind, number, dst in ((USE, other.number, 0), (USE, 0, 0), (USE_STREAM, other.number, 0),
                              (USE, store.number, tree.sibling.id), (USE_STREAM, 65535, 0)):
        client.open(kind, b"\0" + values.encode(["same", [1], {}]), dst=dst, channel=100 + sent, threads=number)
        sent += 1
    refused = {client.wait_for(RESET).channel for _ in range(sent)}
    assert refused == set(range(100, 100 + sent))
    assert tree.police()["refused"] == sent and tree.police()["violations"] == 0
    use(client, store, "same", "still served")
    assert result(client) == "still served"
    use(client, store, "secret", channel=2)
    assert result(client, 2) == "Refused"
    other.close()
    assert tree.sibling.call(functions.echo, 1) == 1


@pytest.mark.parametrize("kind, payload, cls", [
    (LOG, values.encode([0, "x", 50, "I am the master", "", 0, "", 0.0, None]), LOGS),
    (ROUTE_ADD, values.encode([999, 1, "client.1.x", True, "up", {}]), 0), (ROUTE_DEL, values.encode([[1], "x"]), 0),
    (IDS, NUMBER.pack(64), 0), (GOAWAY, b"", 0)])
def test_s_23_s_07_a_client_may_not_report_log_or_end_others(tree, client, kind, payload, cls):
    for _ in range(21):
        client.send(kind, payload, cls=cls)
    assert client.closed()
    assert tree.police()["violations"] >= 20 and tree.police()["disconnected"] == 1
    assert not tree.log.of("x") and tree.sibling.state == "up"
    assert tree.sibling.call(functions.echo, 2) == 2


def test_s_23_spoofed_sources(tree, store, client):
    for src in (0, tree.sibling.id, client.id + 1):
        use(client, store, "put", "spoofed", src, src=src)
        client.send(DATA, b"\0\1", dst=0, src=src, channel=1, flags=FIN, cls=CALLS)
    tree.barrier(client)
    assert tree.police()["spoofed"] == 6 and not store.store.items


def test_s_07_a_child_without_a_grant(tree, store, hostile):
    for channel, kind in enumerate((USE, USE_STREAM, CALL, STREAM), 1):
        use(hostile, store, "put", "k", 1, kind=kind, channel=channel)
        reset = hostile.wait_for(RESET)
        assert reset.channel == channel and b"not granted" in reset.payload
    assert not store.store.items and tree.police()["refused"] == 4
    tree.router.grant_service(store, hostile.context)
    use(hostile, store, "put", "k", 1, channel=5)
    assert result(hostile, 5) == 1
    tree.router.revoke_service(store, hostile.context)


class Bomb:
    """Unpickled, it leaves a trace."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("form", [b"\1", b"\3", b"\5"])
def test_s_30_nothing_of_an_untrusted_client_is_unpickled(tree, store, client, tmp_path, form):
    path = str(tmp_path / "trace")
    bomb = pickle.dumps(("same", (Bomb(path),), {}), 4)
    body = {b"\1": bomb, b"\3": b"\0\0\0\0" + len(bomb).to_bytes(8, "big") + bomb,
            b"\5": len(bomb).to_bytes(2, "big") + bomb}[form]
    use(client, store, "", data=form + body)
    assert result(client) == "Refused"
    use(client, store, "same", path, channel=2, options=9)  # that it asks for pickles is its own affair
    answer = client.wait_for(DATA, lambda frame: frame.channel == 2)
    assert answer.payload[0] in (1, 0) and not os.path.exists(path)


def test_s_30_calls_that_are_none(tree, store, client):
    bad = [b"", b"\0", b"\0\xc1", b"\0" + values.encode([]), b"\0" + values.encode(["same", [1]]),
           b"\0" + values.encode([["same"], [1], {}]), b"\0" + values.encode(["same", "abc", {}]),
           b"\0" + values.encode(["same", [], [1]]), b"\0" + values.encode(["same", [], {1: 2}]), b"\2raw",
           b"\4", b"\xff",
           b"\0" + values.encode(["same", [1], {}]) + b"x", b"\0" + values.encode([b"same", [1], {}])]
    for channel, data in enumerate(bad, 1):
        use(client, store, "", data=data, channel=channel)
    answers = {}
    while len(answers) < len(bad):
        frame = client.receive()
        answers[frame.channel] = frame
    assert all(frame.kind == DATA and frame.payload[0] == 4 for frame in answers.values())
    use(client, store, "same", 5, channel=99)
    assert result(client, 99) == 5


def test_s_09_requests_that_do_not_end_are_bounded(tree, store, client):
    """One request too large, then many that stay below the limit each."""
    head = OPEN_HEAD.pack(USE, 0, store.number, 1 << 18, 0)
    chunk = b"x" * 65536

    def begin(channel):
        client.send(OPEN, head + b"\0", flags=OPENER | MORE, channel=channel, dst=0, cls=BULK)

    def more(channel):
        return client.send(DATA, chunk, flags=OPENER | MORE, channel=channel, dst=0, cls=BULK)

    services = tree.engine.services
    begin(1)
    for _ in range(17):
        more(1)
    assert b"larger than the service takes" in client.wait_for(RESET).payload
    tree.barrier(client)
    assert not services.partial
    count = PARTIAL // len(chunk) // 3 + 3
    for channel in range(2, 2 + count):
        begin(channel)
        for _ in range(3):
            more(channel)
        if not channel % 16:
            tree.barrier(client)
    refused = client.wait_for(RESET)
    assert b"too much of other requests" in refused.payload
    assert sum(services.partial.values()) <= PARTIAL
    with contextree.join(client_invitation(tree, store)) as honest:
        assert honest.services["store"].call.same("x" * 100000) == "x" * 100000
    client.close()
    until(lambda: not services.partial, "it to be forgotten")


def client_invitation(tree, store):
    (guest,) = tree.engine.guests.values()
    return guest.listener.invite(services=[store])


def test_s_09_opened_twice_and_thousands_at_once(tree, store, client):
    use(client, store, "wait", channel=7)
    assert store.store.entered.acquire(timeout=10)
    use(client, store, "same", 1, channel=7)
    assert client.wait_for(RESET).channel == 7
    for flags in (MORE, FIN):
        client.send(OPEN, OPEN_HEAD.pack(USE, 0, store.number, 1 << 18, 0) + b"\0", flags=OPENER | flags, channel=7,
                    dst=0, cls=CALLS)
        assert client.wait_for(RESET).channel == 7
    for channel in range(1000, 3000):
        use(client, store, "wait", channel=channel)
    reset = client.wait_for(RESET, lambda frame: frame.channel >= 1000)
    assert b"at once are too many" in reset.payload
    client.close()
    store.store.gate.set()
    until(lambda: not store.stats()["unanswered"], "all that the client asked for to be gone")
    assert tree.police()["disconnected"] == 0


def test_s_09_a_client_that_does_not_read_holds_up_nobody(tree, store, listener, client):
    for channel in range(1, 9):  # as many as there are threads
        use(client, store, "count", 10**9, kind=USE_STREAM, channel=channel)
    with contextree.join(listener.invite(services=[store])) as honest:
        assert honest.services["store"].call.same(3) == 3
        until(lambda: worst_ping(tree, 50) < 0.05, "the generators to have filled what they may")
        assert list(honest.services["store"].stream.count(2000)) == list(range(2000))
    client.close()
    until(lambda: store.store.closed.count(10**9) == 8, "the generators to be closed")


def test_s_09_a_flood_of_calls_leaves_room_for_others(tree, store, listener, client):
    data = b"".join(client.frame(OPEN, OPEN_HEAD.pack(USE, 0, store.number, 1 << 18, 0) + b"\0"
                                 + values.encode(["same", [1], {}]), flags=OPENER | FIN, channel=n, dst=0, cls=CALLS)
                    for n in range(1, 900))
    client.write(data)
    with contextree.join(listener.invite(services=[store])) as honest:
        assert honest.services["store"].call.same(3) == 3
        assert tree.sibling.ping(5) < 1
    got = set()
    while len(got) < 899:
        got.add(client.wait_for(DATA).channel)


def test_a_client_may_ping_and_is_pinged(tree, client):
    future = tree.barrier(client)
    assert future.channel == 0xbead
    context = tree.router.context_by_id(client.id)
    with pytest.raises(contextree.CallTimeout):
        context.ping(0.1)
    assert client.wait_for(PING)
    with pytest.raises(contextree.CallTimeout):
        context.with_options(timeout=0.1).call(len, "abc")


def test_lines_give_each_caller_its_turn():
    class Call:
        weight = active = 0

        def __init__(self, peer):
            self.channel = self
            self.peer = peer

    lines = Lines()
    for peer in "aaabba":
        lines.put(Call(peer))
    lines.put(Call("c"))
    assert "".join(lines.get().peer for _ in range(7)) == "abcabaa"
    lines.put(Call("a"))
    lines.close()
    with pytest.raises(contextree.Closed):
        lines.get()
    with pytest.raises(contextree.Closed):
        lines.put(Call("a"))
    assert not lines.lines and not lines.items
