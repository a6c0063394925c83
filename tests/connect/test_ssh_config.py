"""``connect.ssh_config`` beside the real ``ssh -G``; ``connect.known_hosts`` beside the real ``ssh-keygen``."""

import base64
import os
import pwd
import shutil
import subprocess

import pytest

from contextree.connect import known_hosts
from contextree.connect.ssh_config import ConfigError, Lookup, expand, words

ME = pwd.getpwuid(os.getuid()).pw_name
needs_ssh = pytest.mark.skipif(not shutil.which("ssh"), reason="no OpenSSH here")


def lookup(text, host, folder, given=None):
    """What ours says."""
    def include(pattern, user):
        return [(str(path), path.read_text()) for path in sorted(folder.glob(pattern))]

    found = Lookup(host, ME, include, given)
    found.read([("config", text, True)])
    return found


CONFIGS = {
    "first value wins": "Host web*\n User ann\n Port 2222\nHost web1\n User bob\nHost *\n User carol\n Port 22\n",
    "negation": "Host * !web1\n User ann\nHost *\n User bob\n",
    "question mark": "Host web?\n Port 7\nHost web??\n Port 8\n",
    "equals and quotes": "Host=web1\n  User = \"ann bee\"\n  HostName=10.0.0.1  # not this\n  Port=23\n",
    "case of keywords": "HOST web1\n hostname EXAMPLE.org\n uSeR ann\n",
    "lists add up": "IdentityFile ~/.ssh/one\nHost web1\n IdentityFile ~/.ssh/two\nHost *\n IdentityFile ~/.ssh/one\n",
    "match host": "Host web1\n HostName db.example.org\nMatch host *.example.org\n User ann\n"
                  "Match host web1\n User bob\n",
    "match originalhost": "Host web1\n HostName x\nMatch originalhost web1\n User ann\n",
    "match user": "Host web1\n User ann\nMatch user ann\n Port 5\nMatch user %s\n Port 6\n" % ME,
    "match localuser": "Match localuser %s\n Port 5\nMatch all\n Port 6\n" % ME,
    "match negated": "Match !host web1\n Port 5\nMatch !originalhost db1,db2\n Port 6\n",
    "match final": "Host web1\n HostName real.example\nMatch final host real.example\n Port 77\n"
                   "Match host real.example\n User ann\n",
    "match canonical": "Match canonical\n Port 5\nMatch !final\n Port 9\n",
    "percent h": "Host web*\n HostName %h.example.org\n",
    "include": "Host web1\n Include one\n Port 9\nHost *\n Include two\n",
    "proxyjump": "Host web1\n ProxyJump ann@gate:2222,inner\n",
    "indent and empty": "\n\n   Host web1\n\n# x\n\tUser\tann\n",
}
INCLUDED = {"one": "User inner\nHost web1\n Port 11\nHost db1\n Port 12\n", "two": "User outer\nPort 13\n"}
KEYS = ("user", "port", "hostname", "proxyjump")


@needs_ssh
@pytest.mark.parametrize("host", ["web1", "web22", "db1", "other"])
@pytest.mark.parametrize("name", CONFIGS)
def test_as_ssh_has_it(name, host, tmp_path):
    for file, text in INCLUDED.items():
        (tmp_path / file).write_text(text)
    text = CONFIGS[name]
    config = tmp_path / "config"
    config.write_text(text.replace("Include ", "Include %s/" % tmp_path))
    output = subprocess.run(["ssh", "-G", "-F", config, host], capture_output=True, text=True, check=True).stdout
    theirs = {key: value for key, _, value in (line.partition(" ") for line in output.splitlines()) if key in KEYS}
    found = lookup(text, host, tmp_path)
    ours = {"hostname": found.host.lower(), "port": found.get("port", "22"), "user": found.get("user", ME)}
    if found.get("proxyjump"):
        ours["proxyjump"] = found.get("proxyjump")
    assert ours == theirs
    files = [line.partition(" ")[2] for line in output.splitlines() if line.startswith("identityfile ")]
    if found.list("identityfile"):
        assert found.list("identityfile") == files


def test_what_the_caller_said_comes_first(tmp_path):
    text = "Match user ann\n Port 5\nHost *\n User bob\n Port 6\n"
    assert lookup(text, "web1", tmp_path, {"user": "ann"}).get("port") == "5"
    assert lookup(text, "web1", tmp_path, {"user": "ann", "port": "7"}).get("port") == "7"
    assert lookup(text, "web1", tmp_path).get("port") == "6"


@pytest.mark.parametrize("text, why", [
    ("Match exec true\n", "line 1: 'Match exec' cannot be answered"),
    ("Match localnetwork 10.0.0.0/8\n", "localnetwork"),
    ("Match\n", "without a criterion"), ("User \"ann\n", "line 1: a quote"), ("!\n", "no keyword"),
    ("Include loop\n", "include each other")])
def test_what_cannot_be_read_is_an_error(text, why, tmp_path):
    (tmp_path / "loop").write_text("Include loop\n")
    with pytest.raises(ConfigError, match=why):
        lookup(text, "web1", tmp_path)


def test_what_stands_behind_a_criterion_that_does_not_hold_is_not_asked(tmp_path):
    assert lookup("Match host db1 exec /bin/false\n Port 5\n", "web1", tmp_path).get("port") is None


def test_words_and_tokens():
    assert words('a "b c" d"e f"g \'h\' i\\ j # k', "x") == ["a", "b c", "de fg", "h", "i j"]
    assert expand("~/.ssh/%r@%h-%%-${X}", {"r": "ann", "h": "web", "%": "%"}, {"X": "y"}, "/home/ann") == \
        "/home/ann/.ssh/ann@web-%-y"
    for text in ("%q", "${NO}", "x%"):
        with pytest.raises(ConfigError):
            expand(text, {"%": "%"}, {}, "/")


# -- known hosts

def test_hashed_names_as_ssh_keygen_makes_them(tmp_path):
    if not shutil.which("ssh-keygen"):
        pytest.skip("no ssh-keygen here")
    file = tmp_path / "known"
    file.write_text("web1 ssh-ed25519 %s\n[web1]:2222 ssh-ed25519 %s\n" % (PLAIN, OTHER))
    subprocess.run(["ssh-keygen", "-H", "-f", file], check=True, capture_output=True)
    lines = known_hosts.entries(file.read_text(), "known")
    assert all(line.names.startswith("|1|") for line in lines)
    assert known_hosts.verdict(lines, "web1", 22, "ssh-ed25519", PLAIN)[0] == "known"
    assert known_hosts.verdict(lines, "web1", 2222, "ssh-ed25519", OTHER)[0] == "known"
    assert known_hosts.verdict(lines, "web2", 22, "ssh-ed25519", PLAIN)[0] == "new"
    assert known_hosts.is_for(known_hosts.Entry("", known_hosts.hashed("web1", b"x" * 20), "", "", ""), "web1")
    ours = tmp_path / "ours"
    ours.write_text("%s ssh-ed25519 %s\n" % (known_hosts.hashed("[web1]:2222", os.urandom(20)), PLAIN))
    found = subprocess.run(["ssh-keygen", "-F", "[web1]:2222", "-f", ours], capture_output=True, text=True, check=False)
    assert PLAIN in found.stdout


def _key(letter):
    body = b"".join(len(part).to_bytes(4, "big") + part for part in (b"ssh-ed25519", letter * 32))
    return base64.b64encode(body).decode()


PLAIN, OTHER, CA = _key(b"a"), _key(b"b"), _key(b"c")


@pytest.mark.parametrize("text, host, port, kind, key, verdict", [
    ("web1 ssh-ed25519 A", "web1", 22, "ssh-ed25519", "A", "known"),
    ("web1,10.0.0.1 ssh-ed25519 A", "10.0.0.1", 22, "ssh-ed25519", "A", "known"),
    ("web* ssh-ed25519 A", "web1", 22, "ssh-ed25519", "A", "known"),
    ("web*,!web1 ssh-ed25519 A", "web1", 22, "ssh-ed25519", "A", "new"),
    ("web1 ssh-ed25519 B", "web1", 22, "ssh-ed25519", "A", "changed"),
    ("web1 ssh-rsa B", "web1", 22, "ssh-ed25519", "A", "other"),
    ("web1 ssh-ed25519 B\nweb1 ssh-ed25519 A", "web1", 22, "ssh-ed25519", "A", "known"),
    ("web1 ssh-ed25519 A", "web1", 2222, "ssh-ed25519", "A", "known"),  # as ssh: the host's name without its port
    ("web1 ssh-ed25519 B", "web1", 2222, "ssh-ed25519", "A", "new"),
    ("[web1]:2222 ssh-ed25519 A", "web1", 22, "ssh-ed25519", "A", "new"),
    ("web1 ssh-ed25519 A\n@revoked * ssh-ed25519 A", "web1", 22, "ssh-ed25519", "A", "revoked"),
    ("@revoked web1 ssh-ed25519 A", "web1", 2222, "ssh-ed25519", "A", "revoked"),
    ("@cert-authority * ssh-ed25519 C", "web1", 22, "ssh-ed25519", "A", "authority"),
    ("@cert-authority * ssh-ed25519 A", "web1", 22, "ssh-ed25519", "A", "authority"),
    ("@cert-authority * ssh-ed25519 C\nweb1 ssh-ed25519 A", "web1", 22, "ssh-ed25519", "A", "known"),
    ("|1|broken ssh-ed25519 A\n|1|a|b|c ssh-ed25519 A\nshort\n# web1 ssh-ed25519 A", "web1", 22, "ssh-ed25519", "A",
     "new"),
    ("|1|*|* ssh-ed25519 A", "web1", 22, "ssh-ed25519", "A", "new"),
])
def test_s_27_what_the_files_say(text, host, port, kind, key, verdict):
    assert known_hosts.verdict(known_hosts.entries(text, "file"), host, port, kind, key)[0] == verdict


def test_kinds_that_are_known(tmp_path):
    lines = known_hosts.entries("web1 ssh-rsa A\n@revoked web1 ssh-dss B\n[web1]:2222 ssh-ed25519 C\nx ecdsa D", "f")
    assert known_hosts.kinds(lines, "web1", 22) == ["ssh-rsa"]
    assert sorted(known_hosts.kinds(lines, "web1", 2222)) == ["ssh-ed25519", "ssh-rsa"]
