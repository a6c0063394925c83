"""``open``: hop by hop, hops shared, what fails says where, and nothing is left of it."""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import contextree
from tests.address import far
from tests.lab import processes
from tests.lab.poll import until


def test_hop_by_hop(router):
    end = router.open("local:?name=a/local:?name=b/fork?name=c")
    assert end.name == "a.b.c" == end.call(far.own_name)
    assert end.call(os.getpid) == end.pid
    assert end.address == "local:/local:/fork:"
    assert [context.name for context in router.contexts] == ["a", "a.b", "a.b.c"]
    assert router.open(["local:?name=d", "local:%s" % sys.executable]).facts["executable"] == sys.executable


def test_from_a_context_and_from_within_one(router):
    base = router.local(name="base")
    assert base.open("local:?name=x/fork?name=y").name == "base.x.y"
    assert base.call(far.open_there, "local:?name=z/local:?name=w") == ("base.z.w", "local:/local:")
    assert router.open("local:?name=q").open("fork?name=r").name == "q.r"


def test_the_last_hop_is_new_and_those_before_it_are_shared(router):
    one, two = (router.open("local:?name=a/local:?name=b/fork") for _ in range(2))
    assert one.id != two.id and one.parent is two.parent
    other = router.open("local:?name=a/local:?name=b&env.X=1/fork")
    assert other.parent is not one.parent and other.parent.parent is one.parent.parent
    assert router.open("local:?name=a").id != one.parent.parent.id
    fresh = router.open("local:?name=a/local:?name=b/fork", reuse=False)
    assert fresh.parent is not one.parent
    first = fresh.parent.parent
    fresh.shutdown()
    until(lambda: first.state == "died", "what was opened for it alone to end with it")
    assert one.call(abs, -1) == two.call(abs, -1) == 1


def test_two_at_once_share_one_connect(router):
    with ThreadPoolExecutor(12) as pool:
        ends = list(pool.map(lambda name: router.open("local:?name=a/local:?name=b/local", name=name), "abcdefghijkl"))
    assert len({end.parent.id for end in ends}) == len({end.parent.parent.id for end in ends}) == 1
    assert len(router.contexts) == 14


def test_a_dead_hop_is_opened_anew(router):
    first = router.open("local:?name=a/local:?name=b/fork").parent.parent
    first.kill()
    two = router.open("local:?name=a/local:?name=b/fork")
    middle, second = two.parent, two.parent.parent
    assert second is not first and second.name == first.name
    assert two.call(abs, -2) == 2
    os.kill(middle.pid, signal.SIGKILL)  # nobody has been told yet
    three = router.open("local:?name=a/local:?name=b/fork")
    assert three.call(abs, -3) == 3
    assert three.parent is not middle and three.parent.parent is second


FAIL = "local:?python=sh&python=-c&python=echo+no-luck>%262;exit+7"


def test_an_error_says_at_which_hop_in_which_phase_what_was_seen(router):
    with pytest.raises(contextree.ConnectError) as caught:
        router.open("local:?name=a/%s&name=b/fork" % FAIL.replace("+", "%20"))
    error = caught.value
    assert (error.hop, error.hops, error.context, error.via, error.phase, error.status) == (2, 3, "a.b", "a", "boot", 7)
    assert error.address.startswith("local:?name=b&python=sh")
    assert "no-luck" in error.output
    assert str(error).startswith("hop 2 of 3 (%s at a): a.b, from a, phase boot: " % error.address)
    until(lambda: not router.contexts, "what had been opened to end")
    with pytest.raises(contextree.ConnectError, match=r"^local, from master, phase start: cannot start /no") as caught:
        router.open("local:/no/such")
    assert caught.value.hop is None


def test_what_others_use_stays_when_a_hop_fails(router):
    kept = router.open("local:?name=a/local:?name=b/fork")
    for address in ("local:?name=a/local:?name=b/local:/no/such", "local:?name=a/local:?name=c/local:/no/such"):
        with pytest.raises(contextree.ConnectError, match="hop 3 of 3"):
            router.open(address)
    until(lambda: len(router.contexts) == 3, "what was opened in vain to end")
    assert kept.call(abs, -1) == 1


def test_who_waits_for_a_hop_gets_its_error(router, tmp_path):
    """One try, not one for each: an account may be locked after three."""
    counter = tmp_path / "tries"
    program = "echo >>%s; while [ ! -e %s/go ]; do sleep 0.02; done; exit 3" % (counter, tmp_path)
    wrong = "local:?name=wrong&" + "&".join("python=" + word for word in ("sh", "-c", program.replace("/", "%2F")
                                                                       .replace(" ", "%20").replace(">", "%3E")))
    with ThreadPoolExecutor(5) as pool:
        tries = [pool.submit(router.open, wrong + "/fork") for _ in range(5)]
        until(lambda: router.engine.opened and next(iter(router.engine.opened.values())).users == 5, "all to wait")
        (tmp_path / "go").touch()
        errors = [each.exception(20) for each in tries]
    assert {type(error) for error in errors} == {contextree.ConnectError}
    assert {error.hop for error in errors} == {1} and len({id(error) for error in errors}) == 5
    assert counter.read_text() == "\n"
    assert not router.engine.opened


def test_nothing_is_opened_when_a_later_hop_is_wrong(router):
    for address, options in (
            ("local:/local:?threads=x", None), ("local:/local:?nmae=x", None),
            ("local:/local:", {"sudo:root": {"password": "geheim"}}), ("local:", {"local:": "geheim"})):
        with pytest.raises(contextree.UsageError) as caught:
            router.open(address, options=options)
        assert "geheim" not in str(caught.value)
    with pytest.raises(contextree.UsageError, match="name= is given twice"):
        router.open("local:?name=x", name="y")
    assert not router.contexts


def test_options_from_the_general_to_the_particular(router):
    asked = []

    def ask(hop):
        asked.append(str(hop))
        return {"env": {"WHO": "asked"}}

    end = router.open("local:?name=a/local:?name=b/local:?name=c&env.WHO=address", options={
        "local": {"env": {"WHO": "method"}}, "local:?name=b": ask})
    assert [context.call(os.getenv, "WHO") for context in (end.parent.parent, end.parent, end)] == [
        "method", "asked", "address"]
    assert asked == ["local:?name=b"]
    router.open("local:?name=a/local:?name=b/local:?name=c&env.WHO=address", options={
        "local": {"env": {"WHO": "method"}}, "local:?name=b": ask})
    assert asked == ["local:?name=b"], "a hop that is there is not asked for"
    assert router.open("local", options=lambda hop: {"name": "by-function"}, threads=2).name == "by-function"


def test_a_hop_that_was_shut_down_meanwhile_is_an_error_of_those_who_wait_and_can_be_tried_again(router, tmp_path):
    os.mkfifo(tmp_path / "gate")
    slow = ["local:?name=slow&python=sh&python=-c&python=read x <%s/gate; exec %s \"$@\"&python=x"
            % (tmp_path, sys.executable), "fork"]
    pool = ThreadPoolExecutor(2)
    first = pool.submit(router.open, slow)
    until(lambda: router.contexts, "the first to begin")
    second = pool.submit(router.open, slow)
    until(lambda: next(iter(router.engine.opened.values())).users == 2, "the second to wait")
    router.contexts[0].shutdown(0)
    assert "hop 1 of 2" in str(first.exception(10))
    assert "hop 1 of 2" in str(second.exception(10))
    answer = pool.submit(router.open, slow)
    with open(tmp_path / "gate", "w") as gate:
        gate.write("go\n")
    assert answer.result(20).call(abs, -4) == 4
    pool.shutdown()


def test_tree_shows_how_each_was_reached(router, sshd):
    web = router.ssh("127.0.0.1", user=sshd.key_user, port=sshd.port, ssh_config=sshd.ssh_config, name="web")
    below = web.fork()
    rows = {line.split()[0]: line.split() for line in router.tree().splitlines()}
    assert rows["web"][3] == web.address == "ssh://%s@127.0.0.1:%d" % (sshd.key_user, sshd.port)
    assert (rows[below.name][3], below.address) == ("fork", web.address + "/fork:")
    assert web.call(far.open_there, "local")[1] == "local:"


def test_open_by_ssh_and_on(router, sshd):
    ssh = {"ssh": {"ssh_config": sshd.ssh_config, "user": "root"}}
    end = router.open("ssh://key/local:/ssh://key?name=inner", options=ssh)
    assert end.name == "ssh.key.local.inner"
    assert end.address == "ssh://root@key/local:/ssh://root@key"
    with pytest.raises(contextree.ConnectError, match=r"^hop 2 of 2 \(ssh://127.0.0.1:1 at ssh.key\): ssh.k") as caught:
        router.open("ssh://key/ssh://127.0.0.1:1", options=ssh)
    assert (caught.value.phase, caught.value.via) == ("connect", "ssh.key")
    with pytest.raises(contextree.AuthenticationError, match="hop 1 of 2") as caught:
        router.open("ssh://password/fork", options={"ssh": {
            "ssh_config": sshd.ssh_config, "password": contextree.Secret("geheim"),
            "extra_args": ["-o", "PubkeyAuthentication=no"]}})
    assert "geheim" not in str(caught.value) + repr(caught.value.__dict__)


def test_everything_ends_with_the_router():
    with contextree.Router() as router:
        ends = [router.open("local/fork").pid for _ in range(2)]
        who = [processes.identity(pid) for pid in ends]
    assert not any(processes.alive(each) for each in who)
