"""Joining a running tree: who may, what it costs, what a client can do, how it ends. P-67."""

import os
import stat
import subprocess
import sys
import threading

import pytest

import contextree
from tests.lab import pythons as lab
from tests.lab.poll import until
from tests.services import far
from tests.services.scripted import ScriptedClient, in_fork

OLDEST = next(python for python in lab.one_each().values() if python.minor != "2.7")


def gone(router):
    """All clients are gone."""
    until(lambda: not router.engine.guests, "the clients to be gone")
    return True


# -- joining


def test_p_67_a_client_has_an_id_of_its_own_and_what_it_was_granted(router, store, listener):
    web, other = router.local(name="web"), router.local(name="other")
    with contextree.join(listener.invite(services=[store], contexts=[web])) as client:
        assert client.name == "client.%d" % os.getpid() and client.id not in (0, web.id, other.id)
        assert list(client.services) == ["store"] and [context.name for context in client.contexts] == ["web"]
        service = client.services["store"]
        assert service.call.whoami() == (client.id, client.name)
        assert service.call.put("k", {1: "x"}) == 1 and service.submit.get("k").result(10) == {1: "x"}
        assert list(service.stream.count(3000)) == list(range(3000))
        with pytest.raises(LookupError):
            service.call.fail("x")
        assert client.context("web").call(os.getpid) == web.pid
        assert client.context("web").call(lambda x: x + 1, 41) == 42
        assert client.context("web").ping(5) > 0 and client.context_by_id(web.id) is client.contexts[0]
        assert client.stats()["loop"]["errors"] == 0 and "%r" % client == "<Client %s>" % client.name
        # the tree sees it
        here = router.context_by_id(client.id)
        assert client.name in router.tree() and here in router.contexts
        assert here.facts["method"] == "join" and here.pid == os.getpid() and here.facts["uid"] == os.geteuid()
        assert here.parent.id == 0 and here.ping(5) > 0
        # and nothing else
        for stranger in (other, router.context_by_id(client.id)):
            with pytest.raises(contextree.UsageError):
                client.context(stranger.name)
        hidden = client.engine.context(other.id, "other")
        with pytest.raises(contextree.Refused, match="not granted"):
            hidden.call(abs, 1)
        with pytest.raises(contextree.Refused, match="not granted"):
            client.engine.context(0, "master").call(abs, 1)
        with pytest.raises(contextree.UsageError, match="no children"):
            client.fork()
        with pytest.raises(contextree.UsageError):
            client.context_by_id(12345)
    assert gone(router) and here.state == "died"
    with pytest.raises(contextree.ContextreeError):
        client.services["store"].call.whoami()
    client.close()


def test_p_67_invitations_differ(router, store, listener):
    narrow = listener.invite(services=[store.only("get")])
    wide = listener.invite(services=[store])
    with contextree.join(narrow) as one, contextree.join(wide) as two:
        assert one.id != two.id and two.services["store"].call.put("a", 1) == 1
        assert one.services["store"].methods == ["get"] and one.services["store"].call.get("a") == 1
        with pytest.raises(contextree.Refused, match="has no method 'put' for you"):
            one.services["store"].call("put", "a", 2)
        with pytest.raises(contextree.Refused, match="not granted"):
            far.call(contextree.Service(one.engine, 0, "master", store.number, "s", ["put"]), "put", "a", 2)


def test_trust_is_an_option(router, store, listener):
    with contextree.join(listener.invite(services=[store])) as client:
        with pytest.raises(contextree.NotSendable, match="does not trust"):
            far.send_point(client.services["store"])
        assert client.services["store"].call.echo(1, b"b", {3}, x=(None,)) == [[1, b"b", {3}], {"x": (None,)}]
    with contextree.join(listener.invite(services=[store], trusted=True)) as client:
        assert far.send_point(client.services["store"]) == 4
        data = os.urandom(1 << 20)
        assert client.services["store"].call.same(data) == data


def test_more_is_granted_later_and_all_is_taken_back(router, store, listener):
    web = router.local(name="web")
    invitation = listener.invite()
    with contextree.join(invitation) as client, contextree.join(listener.invite(contexts=[web])) as other:
        assert not client.services and not client.contexts
        mine = client.engine.context(web.id, "web")
        with pytest.raises(contextree.Refused):
            mine.call(abs, -1)
        listener.grant(invitation, contexts=[web])
        assert mine.call(abs, -1) == 1
        listener.revoke(invitation)
        with pytest.raises(contextree.ContextreeError):
            mine.call(abs, -1)
        assert other.contexts[0].call(abs, -2) == 2
        with pytest.raises(contextree.AuthenticationError, match="not valid"):
            contextree.join(invitation)
        with pytest.raises(contextree.UsageError, match="was revoked"):
            listener.grant(invitation, contexts=[web])
    with pytest.raises(contextree.UsageError, match="not below"):
        listener.invite(contexts=[contextree.Context(router.engine, 999, "x")])


def test_a_client_below_another_context(router, store):
    middle = router.local(name="middle")
    middle.fork(name="web")
    invitation = middle.call(far.listen_here)
    with contextree.join(invitation) as client:
        assert client.name == "middle.client.%d" % os.getpid()
        assert client.services["below"].call.whoami() == (client.id, client.name)
        assert client.contexts[0].call(os.getpid) == router.context_by_id(client.contexts[0].id).pid
        assert router.context_by_id(client.id).name == client.name
        with pytest.raises(contextree.Refused, match="not granted"):
            client.engine.context(0, "master").call(abs, 1)
        with pytest.raises(contextree.Refused, match="not granted"):
            far.call(contextree.Service(client.engine, 0, "master", store.number, "s", []), "whoami")
        directory = os.path.dirname(invitation.path)
        middle.shutdown()
        with pytest.raises(contextree.ContextDied, match="is gone"):
            client.services["below"].call.whoami()
    assert not os.path.exists(directory)


# -- forks and other processes


def worker(invitation, key):
    with contextree.join(invitation) as client:
        return client.services["store"].call.put(key, os.getpid()), client.name == "client.%d" % os.getpid()


def test_forked_workers_join_by_what_they_inherit(router, store, listener):
    """As Ansible's workers: forked from the process that has the tree, by others."""
    invitation = listener.invite(services=[store])
    for number in range(5):
        assert in_fork(worker, invitation, number) == str((number + 1, True))
    assert gone(router) and listener.stats()["joined"] == 5
    assert router.local().call(abs, -1) == 1


def test_a_fork_of_a_client_may_join_anew(router, store, listener):
    invitation = listener.invite(services=[store])
    with contextree.join(invitation) as client:

        def use():
            try:
                client.services["store"].call.same(1)
            except contextree.ForkedError as error:
                client.close()
                return "%s; %s" % (error, worker(invitation, "x"))

        said = in_fork(use)
        assert said.endswith("belongs to the process that this one was forked from; (1, True)")
        assert client.services["store"].call.get("x") != os.getpid()


def test_a_process_that_was_started_later_joins_by_a_file(router, store, listener):
    path = listener.save(listener.invite(services=[store]))
    found = os.stat(path)
    assert stat.S_IMODE(found.st_mode) == 0o600 and found.st_uid == os.geteuid()
    script = ("import sys, contextree\nwith contextree.join(sys.argv[1]) as client:\n"
              "    print(client.services['store'].call.same(['hello', 1]))\n")
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, timeout=30)
    assert done.stdout == "['hello', 1]\n" and done.stderr == ""
    leaving = ("import sys, contextree\nclient = contextree.join(sys.argv[1])\n"
               "print(client.services['store'].call.same(['hello', 1]))\n")
    done = subprocess.run([sys.executable, "-c", leaving, path], capture_output=True, text=True, timeout=30)
    assert done.stdout == "['hello', 1]\n" and done.stderr == "", "nobody closed it"
    assert gone(router)
    with pytest.raises(contextree.UsageError, match="there already"):
        listener.save(listener.invite())
    for name in ("../x", "", "socket", "socket.lock", "."):
        with pytest.raises(contextree.UsageError):
            listener.save(listener.invite(), name)
    listener.close()
    assert not os.path.exists(os.path.dirname(path))
    with pytest.raises(contextree.ConnectError, match="nobody listens"):
        contextree.join(contextree.Invitation(os.path.join(os.path.dirname(path), "socket"), b"x" * 48))


def test_many_threads_and_processes_join_at_once(router, store, listener):
    invitation = listener.invite(services=[store])
    said = []
    threads = [threading.Thread(target=lambda: said.append(worker(invitation, os.urandom(8))[1])) for _ in range(24)]
    pids = []
    for _ in range(16):
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(0 if worker(invitation, os.urandom(8))[1] else 1)
            finally:
                os._exit(2)
        pids.append(pid)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 16 and said == [True] * 24
    assert listener.stats()["joined"] == 40 and gone(router)


# -- ends


def test_a_client_that_dies_takes_its_grants_and_calls_with_it(router, store, listener):
    web = router.local(name="web")
    with contextree.join(listener.invite(contexts=[web])) as witness:
        client = ScriptedClient(listener.invite(services=[store], contexts=[web]))
        here = router.context_by_id(client.id)
        client.close()
        assert "it has left" in str(here.wait(10))
        assert client.id not in router.engine.infos and not router.engine.guests.get(client.id)
        assert client.id not in router.engine.core.names, "memory stays bounded however many come and go"
        assert witness.contexts[0].call(abs, -1) == 1


def test_what_a_client_called_hears_of_its_end_and_the_other_way_round(router, listener):
    web = router.fork(name="web")
    with contextree.join(listener.invite(contexts=[web])) as client:
        stream = client.contexts[0].stream(far.endless)
        assert next(stream) == 0
    until(lambda: web.call(far.ended), "the generator to be closed")
    with contextree.join(listener.invite(contexts=[web])) as client:
        assert client.contexts[0].call(abs, -1) == 1
        future = client.contexts[0].submit(far.endless_wait)
        web.kill()
        with pytest.raises(contextree.ContextDied):
            future.result(10)
        with pytest.raises(contextree.ContextreeError):
            client.contexts[0].call(abs, 1)


def test_the_root_ends_a_client_and_clients_do_not_hold_up_the_end():
    thing = far.Store()
    with contextree.Router() as router:
        store = router.serve("store", thing)
        listener = router.listen()
        one, two = (contextree.join(listener.invite(services=[store])) for _ in range(2))
        router.context_by_id(one.id).shutdown()
        with pytest.raises(contextree.ContextDied, match="is gone"):
            one.services["store"].call.same(1)
        assert two.services["store"].call.same(1) == 1
        waiting = two.services["store"].submit.wait()
        silent = ScriptedClient(listener.invite())
        directory = os.path.dirname(listener.path)
    with pytest.raises(contextree.ContextDied, match="is gone"):
        waiting.result(10)
    thing.gate.set()
    assert silent.closed() and not os.path.exists(directory)
    for client in (one, two, silent):
        client.close()
    with pytest.raises(contextree.Closed):
        router.listen()


def test_after_the_listener_clients_stay(router, store):
    listener = router.listen()
    invitation = listener.invite(services=[store])
    with contextree.join(invitation) as client:
        listener.close()
        listener.close()
        assert client.services["store"].call.same(1) == 1 and not os.path.exists(listener.path)
        with pytest.raises(contextree.ConnectError):
            contextree.join(invitation)
        with pytest.raises(contextree.Closed):
            listener.invite()


def test_nothing_is_left_of_a_tree_with_services():
    with contextree.Router() as router:
        service = router.serve("x", far.Store())
        assert service.call.same(1) == 1
        stream = service.stream.count(10**6)
        next(stream)
        abandoned = router.listen()
    with pytest.raises(contextree.ContextreeError):
        service.call.same(1)
    assert not os.path.exists(os.path.dirname(abandoned.path))


def test_a_service_of_a_client_can_be_called_back_from_above(router, listener):
    """A client is a leaf, but who is above it may call what it serves, as with every context."""
    caller = router.serve("caller", {"call_back": lambda service, x: service.call.double(x) + 1})
    for trusted in (True, False):  # a handle goes as plain data, too
        with contextree.join(listener.invite(services=[caller], trusted=trusted)) as client, \
                client.serve("mine", {"double": lambda x: 2 * x}) as mine:
            assert client.services["caller"].call.call_back(mine, 4) == 9
    with contextree.join(listener.invite(services=[caller])) as client, \
            pytest.raises(contextree.DecodeError, match="not known here"):
        client.services["caller"].call.call_back(contextree.Service(client.engine, 77, "x", 1, "x", ["double"]), 4)


def test_a_context_of_one_tree_joins_another(router, store, listener):
    """On the oldest Python, with nothing of contextree installed there."""
    with contextree.Router() as other:
        old = other.local(python=OLDEST.argv[0])
        said = old.call(far.join_and_ask, listener.invite(services=[store]))
        assert said == ("client.%d" % old.pid, "client.%d" % old.pid, old.name)
