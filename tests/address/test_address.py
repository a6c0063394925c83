"""Addresses as text: what they mean, what is refused and with which words, the way back."""

import ast
import importlib
import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import contextree
from contextree.connect import address
from contextree.connect.address import METHODS, Hop, parse
from contextree.parent.grower import Grower


def hops(*found):
    return [Hop(method, target, tuple(options.items())) for method, target, options in found]


MEANT = [
    ("ssh://deploy@web1:2222", hops(("ssh", "web1", {"port": "2222", "user": "deploy"}))),
    ("ssh:web1", hops(("ssh", "web1", {}))),
    ("ssh://[::1]:22", hops(("ssh", "::1", {"port": "22"}))),
    ("ssh://ann@[fe80::1%25eth0]", hops(("ssh", "fe80::1%eth0", {"user": "ann"}))),
    ("ssh://CORP%5Cann@web1", hops(("ssh", "web1", {"user": "CORP\\ann"}))),
    ("ssh://ann@corp@web1", hops(("ssh", "web1", {"user": "ann@corp"}))),
    ("sudo", hops(("sudo", "root", {}))),
    ("sudo:", hops(("sudo", "root", {}))),
    ("sudo:www-data", hops(("sudo", "www-data", {}))),
    ("machinectl", hops(("machinectl", ".host", {}))),
    ("local", hops(("local", "", {}))),
    ("local:/usr/local/bin/python3", hops(("local", "/usr/local/bin/python3", {}))),
    ("local:%2Fsudo", hops(("local", "/sudo", {}))),
    ("local:/docker:app", hops(("local", "", {}), ("docker", "app", {}))),
    ("local:/docker:app/fork", hops(("local", "", {}), ("docker", "app", {}), ("fork", "", {}))),
    ("ssh://web1/sudo:root/docker:app", hops(("ssh", "web1", {}), ("sudo", "root", {}), ("docker", "app", {}))),
    ("chroot:/srv/local/www/sudo:root", hops(("chroot", "/srv/local/www", {}), ("sudo", "root", {}))),
    ("chroot:/srv%2Fsudo", hops(("chroot", "/srv/sudo", {}))),
    (["chroot:/srv/sudo", "local:/fork"], hops(("chroot", "/srv/sudo", {}), ("local", "/fork", {}))),
    ("chroot:/srv/sudo%3Ax", hops(("chroot", "/srv/sudo:x", {}))),
    ("chroot:tree/sudo", hops(("chroot", "tree", {}), ("sudo", "root", {}))),
    ("chroot:~/tree/sudo:", hops(("chroot", "~/tree", {}), ("sudo", "root", {}))),
    ("chroot:/", hops(("chroot", "/", {}))),
    ("nspawn:/var/lib/machines/db/fork:", hops(("nspawn", "/var/lib/machines/db", {}), ("fork", "", {}))),
    ("docker:a%2Fb", hops(("docker", "a/b", {}))),
    ("ssh://web1?python=~/venv/bin/python/sudo:", hops(("ssh", "web1", {"python": "~/venv/bin/python"}),
                                                      ("sudo", "root", {}))),
    ("ssh://web1?python=python3/sudo", hops(("ssh", "web1", {"python": "python3"}), ("sudo", "root", {}))),
    ("ssh://web1?user=ann&port=22", hops(("ssh", "web1", {"port": "22", "user": "ann"}))),
    ("local:?env.LANG=C%26D", hops(("local", "", {"env.LANG": "C&D"}))),
    (["ssh://web1", "chroot:/srv/sudo:x", "sudo"], hops(("ssh", "web1", {}), ("chroot", "/srv/sudo:x", {}),
                                                       ("sudo", "root", {}))),
    (["ssh://web1?python=/opt/local:/x"], hops(("ssh", "web1", {"python": "/opt/local:/x"}))),
]


@pytest.mark.parametrize(("text", "meant"), MEANT, ids=[str(text) for text, _ in MEANT])
def test_what_it_means_and_the_way_back(text, meant):
    assert parse(text) == meant
    written = "/".join(str(hop) for hop in meant)
    assert parse(written) == meant == parse([str(hop) for hop in meant]) == parse(meant)
    assert "/".join(str(hop) for hop in parse(written)) == written


REFUSED = [
    ("", "found nothing where a method should begin", 1),
    ([], "empty list", 0),
    ([3], "has no int in it", 0),
    ("shh://web1", "there is no method 'shh'; did you mean ssh?", 1),
    ("ssh://web1/sud:root", "there is no method 'sud'; did you mean sudo", 12),
    ("web1", "a host is written ssh://web1", 1),
    ("docker:a/b", "a slash begins a new hop, one within a name is written %2F", 10),
    ("ssh://web1/", "there is one slash too many", 12),
    ("ssh://web1//sudo", "there is one slash too many", 12),
    ("ssh:", "ssh wants a host behind it, as in ssh://web1", 1),
    ("docker", "docker wants a name behind it, as in docker:name", 1),
    ("chroot:", "chroot wants a path behind it, as in chroot:/srv/tree", 1),
    ("sudo://root", "found '//', which only ssh has behind it; wanted sudo:name", 6),
    ("fork:x", "fork has nothing behind it but options", 6),
    ("ssh://web1:99999", "no port: wanted a number from 1 to 65535", 12),
    ("ssh://web1:x", "no port: wanted a number from 1 to 65535", 12),
    ("ssh://@web1", "where the user's name should be", 7),
    ("ssh://we[b", "wanted a host, or [an IPv6 address], and maybe :port", 7),
    ("ssh://::1", "no port", 8),
    ("ssh://web1?usr=x", "ssh has no option 'usr'; did you mean user?", 12),
    ("ssh://web1?user", "found 'user', wanted an option as in ssh?name=value", 12),
    ("ssh://ann@web1?user=bob", "the user is given twice", 16),
    ("ssh://web1?port=1&port=2", "the port is given twice", 19),
    ("sudo:100%", "found a '%' that is not one of %XX", 9),
    ("sudo:%FF", "no UTF-8", 6),
    ("local:/x%0Ay", "control character", 7),
    ("local:/fork", "found '/fork' behind '', which may be a hop or part of the path: write /fork: for a hop, %2Ff", 7),
    ("chroot:/srv/sudo", "found '/sudo' behind '/srv', which may be a hop or part of the path: write /sudo: for", 12),
    ("ssh://web1?python=/usr/bin/python3/local", "write /local: for a hop, %2Flocal for a path, or a list", 35),
    (["ssh://web1/sudo:root"], "a host has no slash in it: in a list each element is one hop", 11),
]


@pytest.mark.parametrize(("text", "said", "position"), REFUSED, ids=[str(row[0]) for row in REFUSED])
def test_what_is_refused_says_what_was_found_and_wanted_and_where(text, said, position):
    with pytest.raises(contextree.UsageError, match=re.escape(said)) as caught:
        parse(text)
    if position:
        assert "at character %d)" % position in str(caught.value)


@pytest.mark.parametrize("text", [
    "ssh://ann:geheim@web1", "ssh:ann:geheim@web1", "ssh://ann:gehe@geheim@web1", "ssh://ann:x/geheim@web1",
    "ssh://ann:22/geheim@web1/sudo", "ssh://web1?password=geheim", "ssh://web1?passphrase=geheim&user=x", "shh://a:geheim@x",
    "ssh://web1/sudo:ann:geheim@x", "docker:ann:geheim@app", "ssh://ann:geheim@web1?x", ["ssh://ann:geheim@web1"],
    ["ssh://ann:x/geheim@web1"], "sudo?password=geheim%", "ssh://ann:geheim@web1:port",
])
def test_passwords_are_refused_and_not_repeated(text):
    with pytest.raises(contextree.UsageError) as caught:
        parse(text)
    assert "geheim" not in str(caught.value)


def test_a_password_is_refused_with_the_place_where_it_belongs():
    with pytest.raises(contextree.UsageError, match=r"options=\{'ssh': \{'password': \.\.\.\}\}"):
        parse("ssh://ann:geheim@web1")


def test_options_have_the_type_that_they_have_in_the_method():
    def options(text):
        return parse(text)[0].arguments()[1]

    assert options("ssh://web1:22?keepalive=5&compression=yes&forward_agent=false") == {
        "port": 22, "keepalive": 5, "compression": True, "forward_agent": False}
    assert options("ssh://web1?connect_timeout=2.5") == {"connect_timeout": 2.5}
    assert options("ssh://web1?connect_timeout.boot=3&connect_timeout.login=4") == {
        "connect_timeout": {"boot": 3.0, "login": 4.0}}
    assert options("ssh://web1?extra_args=-v") == {"extra_args": ["-v"]}
    assert options("ssh://web1?extra_args=-v&extra_args=-4") == {"extra_args": ["-v", "-4"]}
    assert options("ssh://web1?python=python3") == {"python": "python3"}
    assert options("ssh://web1?python=env&python=python3") == {"python": ["env", "python3"]}
    assert options("local:/a%20b?env.LANG=C&threads=4") == {"python": ["/a b"], "env": {"LANG": "C"}, "threads": 4}
    assert options("sudo?preserve_env=yes") == {"preserve_env": True}
    assert options("sudo?preserve_env=A&preserve_env=B") == {"preserve_env": ["A", "B"]}
    assert options("ssh://web1?transport=paramiko") == {"transport": "paramiko"}
    assert parse("setns:12")[0].arguments()[0] == (12,) and parse("setns:app")[0].arguments()[0] == ("app",)
    assert options("fork?direct=true&name=x") == {"direct": True, "name": "x"}
    for wrong, said in (("compression=maybe", "wants true or false"), ("keepalive=x", "wants a number"),
                        ("connect_timeout=x", "wants a number"), ("port.x=1", "port is none"),
                        ("name=a&name=b", "twice")):
        with pytest.raises(contextree.UsageError, match=said):
            options("ssh://web1?" + wrong)


def test_every_method_of_a_context_has_its_place_here():
    """The table has the methods that there are, with their defaults."""
    made = {name: method for name, method in vars(Grower).items() if inspect.isfunction(method)
            and name in {node.name for node in ast.walk(ast.parse(inspect.getsource(Grower).lstrip()))
                         if isinstance(node, ast.FunctionDef)}
            and not name.startswith("_") and name not in ("grow", "open", "attach", "jobs")}
    assert set(made) == set(METHODS)
    for name, method in made.items():
        first = list(inspect.signature(method).parameters.values())[1]
        if name not in ("fork", "local"):
            assert METHODS[name][1] == (None if first.default is first.empty else first.default), name


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"fork"}))
def test_options_of_every_method_can_be_typed(method):
    """Each parameter of its plan has an annotation that is understood here."""
    if not hasattr(importlib.import_module("contextree.connect." + method), "plan"):
        return
    _, known = address.signature(method)
    for name, annotation in known.items():
        words = set(re.findall(r"\w+", annotation))
        assert words & {"str", "StrPath", "int", "float", "bool", "Dict", "dict", "Mapping"}, (name, annotation)
    assert not any(re.search("pass|secret", name) for name in known)


@given(st.lists(st.one_of(
    st.tuples(st.just("sudo"), st.text(min_size=1), st.just(())),
    st.tuples(st.just("chroot"), st.text(min_size=1).map(lambda text: "/" + text), st.just(())),
    st.tuples(st.just("local"), st.text(), st.lists(st.tuples(st.just("name"), st.text()), max_size=1).map(tuple)),
    st.tuples(st.just("ssh"), st.text(min_size=1), st.lists(st.tuples(st.just("user"), st.text(min_size=1)), max_size=1)
              .map(tuple)),
), min_size=1, max_size=4))
def test_any_hops_can_be_written_and_read(found):
    chain = [Hop(*row) for row in found]
    texts = [row[1] for row in found] + [text for row in found for _, text in row[2]]
    if any(re.search("[\0-\x1f\x7f]", text) for text in texts) or any(
            row[0] == "ssh" and re.search(r"[\[\]]|^$", row[1]) for row in found):
        return
    assert parse("/".join(map(str, chain))) == chain == parse(list(map(str, chain)))


def test_what_a_method_was_called_for_is_written_as_an_address():
    def written(method, target, **options):
        return address.written(method, target, options)

    assert written("ssh", "ann@[::1]", port=22, password="geheim", identity_file="/k") == "ssh://ann@[::1]:22"
    assert written("ssh_paramiko", "web1", user="ann") == "ssh://ann@web1?transport=paramiko"
    assert written("kubectl", "pod-1", namespace="prod", container="web", context=None) == (
        "kubectl:pod-1?namespace=prod&container=web")
    assert written("chroot", "/srv/sudo:x") == "chroot:/srv/sudo%3Ax"
    assert written("setns", 12) == "setns:12"
