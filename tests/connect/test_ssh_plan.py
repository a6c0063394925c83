"""The plans of connect.ssh and connect.local as data: what is refused, and what ssh makes of the rest."""

import pickle
import re
import shlex
import subprocess

import pytest

from contextree.connect import local, ssh
from contextree.connect.plan import PYTHON, PYTHON_QUOTED, Plan, Secret, command, safe_name
from contextree.core.wire import errors


def effective(plan):
    """What ssh makes of a plan's arguments and its configuration: {keyword: value}."""
    argv = plan.argv[:plan.argv.index("--")] + ["-G", "--", *plan.argv[plan.argv.index("--") + 1:-1]]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return dict(line.partition(" ")[::2] for line in text.splitlines())


@pytest.mark.parametrize("host", [
    "-oProxyCommand=touch /x", "-x", "", "a b", "a\nb", "a\tb", "a\0b", "a\x1bb", "a;b", "a$(id)", "a`id`", "a|b",
    "a'b", 'a"b', "a\\b", "web1:22", "[::1]:22", "[web1]", "[::1", "ssh://web1", "a/b", "x@-oProxyCommand=y", "a@b@",
    "@", "user@", "a*", "a,b", "a\u2028b"])
def test_s_28_hosts_that_are_refused(host):
    with pytest.raises(errors.UsageError):
        ssh.plan(host)


@pytest.mark.parametrize("user", ["-oProxyCommand=x", "", "a b", "a\nb", "a\0b", "a;b", "$(id)", "a'b", "a\\", 7,
                                  "a/b"])
def test_s_28_users_that_are_refused(user):
    with pytest.raises(errors.UsageError):
        ssh.plan("web1", user=user)


@pytest.mark.parametrize("given, user, host", [
    ("web1", None, "web1"), ("ann@web1", "ann", "web1"), ("a@corp.org@web1", "a@corp.org", "web1"),
    ("::1", None, "::1"), ("[::1]", None, "::1"), ("ann@[fe80::1%eth0]", "ann", "fe80::1%eth0"),
    ("CORP\\ann@web1", "CORP\\ann", "web1"), ("my_host-1.example.", None, "my_host-1.example."),
    ("xn--mller-kva.example", None, "xn--mller-kva.example")])
def test_s_28_hosts_that_ssh_understands_as_meant(given, user, host):
    plan = ssh.plan(given, ssh_config="/dev/null")
    assert plan.argv[-3:] == ["--", host, PYTHON_QUOTED]
    found = effective(plan)
    assert found["hostname"] == host and (user is None or found["user"] == user)


def test_s_28_two_users_are_refused_unless_they_agree():
    assert ssh.plan("ann@web1", user="ann").argv.count("ann") == 1
    with pytest.raises(errors.UsageError, match=r"ann.*bob"):
        ssh.plan("ann@web1", user="bob")


@pytest.mark.parametrize("options", [
    {"port": 0}, {"port": 65536}, {"port": True}, {"port": "x"}, {"port": "22 "}, {"jump": "-oProxyCommand=x"},
    {"jump": "a b"}, {"jump": []}, {"jump": "a,,b"}, {"jump": "a:99999"}, {"jump": "x@-a"}, {"identity_file": "-x"},
    {"identity_file": "${HOME}/k"}, {"identity_file": "a\nb"}, {"identity_file": 3}, {"known_hosts": 'a"b'},
    {"host_keys": "no"}, {"host_keys": False}, {"host_keys": None}, {"keepalive": 0}, {"keepalive": 1.5},
    {"keepalive_count": -1}, {"connect_timeout": 0}, {"connect_timeout": {"dinner": 3}}, {"connect_timeout": "3"},
    {"password": ""}, {"password": "a\nb"}, {"password": 5}, {"passphrase": "a\0"}, {"python": ""}, {"python": []},
    {"python": "it's"}, {"python": ["a'b"]}, {"python": ["py!"]}, {"extra_args": ["a\nb"]}, {"ssh": ""},
    {"name": "a/b"}, {"name": "a b"}, {"name": ""}, {"name": "x" * 129}, {"name": "a\n"}])
def test_options_that_are_refused(options):
    with pytest.raises(errors.UsageError):
        ssh.plan("web1", **options)


STRICT = ["-o", "StrictHostKeyChecking=yes", "-o", "NoHostAuthenticationForLocalhost=no", "-o", "BatchMode=yes"]


FILLED = {"%h": "HOST", "%p": "PORT", "%%": "%"}


def hops(plan):
    """The ssh commands of a plan's ProxyCommand, as ssh and /bin/sh read them, the last hop first."""
    out, argv = [], plan.argv
    while True:
        proxy = [word for word in argv if word.startswith("ProxyCommand=")]
        if not proxy:
            return out
        argv = shlex.split(re.sub("%[hp%]", lambda match: FILLED[match.group()], proxy[0].partition("=")[2]))
        out.append(argv)


@pytest.mark.parametrize("jump, expected", [
    ("ann@gate:2222", [["-l", "ann", "-p", "2222", "-W", "[HOST]:PORT", "--", "gate"]]),
    (["a", "b@[::1]:22"], [["-l", "b", "-p", "22", "-W", "[HOST]:PORT", "--", "::1"],
                           ["-W", "[HOST]:PORT", "--", "a"]]),
    ("a,b,c", [["-W", "[HOST]:PORT", "--", name] for name in "cba"]),
    ("CORP\\ann@fe80::1%eth0", [["-l", "CORP\\ann", "-W", "[HOST]:PORT", "--", "fe80::1%eth0"]])])
def test_jumps(jump, expected):
    """Each is started with all that we insist on."""
    plan = ssh.plan("web1", jump=jump, ssh="ssh -4", ssh_config="/x y/it's", password="x", identity_file="/key",
                    host_keys="off", known_hosts="/a %h b")
    found = hops(plan)
    assert len(found) == len(expected)
    for argv, end in zip(found, expected, strict=True):
        assert argv[:4] == ["ssh", "-4", "-F", "/x y/it's"]
        assert argv[4:10] == STRICT
        assert 'UserKnownHostsFile="/a %%h b"' in argv and "ControlPath=none" in argv and "ForwardAgent=no" in argv
        rest = iter(argv[10:])
        assert [word for word in rest if word != "-o" or not next(rest)] == end
        assert "/key" not in argv
    assert plan.env["SHELL"] == "/bin/sh" and "ProxyUseFdpass=no" in plan.argv


@pytest.mark.parametrize("keyword", ["ProxyJump gate", "ProxyCommand nc %h %p"])
def test_no_jump_whatever_ssh_config_says(keyword, tmp_path):
    (tmp_path / "config").write_text("Host *\n  %s\n" % keyword)
    for jump, there in ((None, True), ("none", False), (["none"], False)):
        found = effective(ssh.plan("web1", ssh_config=tmp_path / "config", jump=jump))
        assert ("proxyjump" in found or "proxycommand" in found) == there
    found = effective(ssh.plan("web1", ssh_config=tmp_path / "config", jump="other"))
    assert found["proxycommand"].endswith("-W '[%h]:%p' -- other") and "proxyjump" not in found


@pytest.mark.parametrize("words", [
    ["web2"], ["-v", "web2"], ["--"], ["-"], ["-o"], ["-vo"], ["-A"], ["-X"], ["-Y"], ["-vX"], ["-M"], ["-S", "x"],
    ["-Sx"], ["-t"], ["-N"], ["-f"], ["-n"], ["-G"], ["-V"], ["-W", "a:1"], ["-L", "1:a:1"], ["-R1:a:1"], ["-D", "1"],
    ["-w", "0"], ["-J", "gate"], ["-O", "exit"], ["-s"], ["-Q", "key"], ["-Z"], ["-o", "X=Y", "echo"], [""], [3],
    "-v", ["-o", "a\nb"]])
def test_s_27_s_28_extra_args_that_are_refused(words):
    with pytest.raises(errors.UsageError, match="extra_args"):
        ssh.plan("web1", extra_args=words)


@pytest.mark.parametrize("words", [
    [], ["-v"], ["-4"], ["-vvC"], ["-o", "X=Y"], ["-oX=Y"], ["-vo", "X=Y"], ["-c", "aes128-ctr", "-m", "x", "-4"],
    ["-b", "10.0.0.1"], ["-E", "-log"], ("-6", "-q"), ["-i", "key"], ["-I/lib/pkcs11.so"]])
def test_s_28_extra_args_that_ssh_takes(words):
    argv = ssh.plan("web1", extra_args=words).argv
    at = argv.index("--")
    assert argv[at - len(words):at] == list(words) and argv[at + 1] == "web1"


GENEROUS = """Host *
  ForwardAgent yes
  ForwardX11 yes
  ForwardX11Trusted yes
  LocalForward 8080 localhost:80
  RemoteForward 8080 localhost:80
  DynamicForward 1080
  ControlMaster auto
  ControlPath /x/%C
  PermitLocalCommand yes
  LocalCommand echo noise
  RemoteCommand sleep 1
  RequestTTY force
  StrictHostKeyChecking no
  BatchMode no
  LogLevel DEBUG
  ServerAliveInterval 0
  Tunnel yes
Host web1
  HostName 192.0.2.7
  User carla
  Port 2200
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "the config"
    path.write_text(GENEROUS)
    return path


def test_s_29_nothing_is_forwarded_or_shared_whatever_ssh_config_says(config):
    found = effective(ssh.plan("web1", ssh_config=config))
    assert {key: found[key] for key in ("forwardagent", "forwardx11", "clearallforwardings", "permitlocalcommand",
                                        "stricthostkeychecking", "batchmode", "tunnel", "requesttty")} == {
        "forwardagent": "no", "forwardx11": "no", "clearallforwardings": "yes", "permitlocalcommand": "no",
        "stricthostkeychecking": "true", "batchmode": "yes", "tunnel": "false", "requesttty": "false"}
    assert found["controlmaster"] == "false" and found.get("controlpath", "none") == "none"
    assert found.get("remotecommand", "none") == "none" and found["loglevel"] == "ERROR"
    assert found["serveraliveinterval"] == "1"


def test_s_29_what_was_asked_for_is_given(config, tmp_path):
    found = effective(ssh.plan("web1", ssh_config=config, forward_agent=True, control_path=tmp_path / "a b",
                               compression=True, keepalive=2, keepalive_count=5, connect_timeout={"connect": 7}))
    assert found["forwardagent"] == "yes" and found["controlpath"] == str(tmp_path / "a b")
    assert (found["compression"], found["serveraliveinterval"], found["serveralivecountmax"],
            found["connecttimeout"]) == ("yes", "2", "5", "7")


def test_ssh_config_counts_unless_the_caller_says_otherwise(config):
    found = effective(ssh.plan("web1", ssh_config=config))
    assert (found["hostname"], found["user"], found["port"]) == ("192.0.2.7", "carla", "2200")
    found = effective(ssh.plan("web1", ssh_config=config, user="ann", port=22))
    assert (found["hostname"], found["user"], found["port"]) == ("192.0.2.7", "ann", "22")


def test_a_terminal_only_with_a_secret():
    bare, asked = ssh.plan("web1"), ssh.plan("web1", password="x")
    assert (bare.tty, bare.dialogue, bare.probe) == (False, None, None) and "BatchMode=yes" in bare.argv
    assert asked.tty and "BatchMode=no" in asked.argv and "NumberOfPasswordPrompts=1" in asked.argv


def test_s_24_secrets_are_in_the_dialogue_alone():
    plan = ssh.plan("web1", password="Canary1", passphrase=Secret("Canary2"))
    shown = repr([getattr(plan, field) for field in Plan.__slots__]) + repr(command(plan, ["-c", "x"])) + repr(plan)
    assert "Canary" not in shown


def test_s_27_the_check_is_off_only_by_its_name_and_is_flagged():
    assert ssh.plan("web1").warnings == () == ssh.plan("web1", host_keys="accept-new").warnings
    plan = ssh.plan("web1", host_keys="off")
    assert "web1" in plan.warnings[0] and "StrictHostKeyChecking=no" in plan.argv


def test_plan_is_picklable_and_explains_where_it_arrives():
    plan = pickle.loads(pickle.dumps(ssh.plan("web1", user="ann", password="x", connect_timeout=3)))
    assert plan.phases == {"connect": 3, "login": 3, "boot": 3}
    assert plan.dialogue.feed(b"ann@web1's password: ")[0].data == b"x\n"
    assert plan.explain(127, "sh: python3: not found")[::2] == ("ConnectError", "boot")
    bare = Plan(["x", PYTHON], "x", "custom")
    assert pickle.loads(pickle.dumps(bare)).explain(-9, "a\nlast\n") == (
        "ConnectError", "custom: the interpreter was killed by signal 9 before it said hello: last", "boot")


def test_p_72_names():
    assert ssh.plan("CORP\\ann@web1").name == "ssh.web1" and ssh.plan("web1", port=2200).name == "ssh.web1:2200"
    assert ssh.plan("fe80::1%eth0").name == "ssh.fe80::1_eth0" and ssh.plan("web1", name="w@1").name == "w@1"
    assert safe_name("CORP\\ann") == "CORP_ann" and safe_name("a b\n\x1b") == "a_b__"
    assert len(safe_name("x" * 999)) == 128
    for name in ("a/b", "", "../x"):
        with pytest.raises(errors.UsageError):
            safe_name(name)


def test_local_plan_and_command():
    plan = local.plan("/usr/bin/env 'A B=1' python3", env={"X": "1", "Y": None}, name="w")
    assert command(plan, ["-c", "s"]) == ["/usr/bin/env", "A B=1", "python3", "-c", "s"]
    assert (plan.trusted, plan.remote, plan.tty, plan.env) == (True, False, False, {"X": "1", "Y": None})
    assert command(local.plan(), ["-c", "s"], default=["/py"]) == ["/py", "-c", "s"]
    assert command(ssh.plan("h", python=["~/my py", "-E"]), ["-c", 'a("b")'])[-1] == (
        "env 'PYTHONSAFEPATH=contextree' ~/'my py' -E -c 'a(\"b\")'")
    for env in ({"": "x"}, {"A=B": "x"}, {"A": 1}, {1: "x"}, {"A": "\0"}):
        with pytest.raises(errors.UsageError):
            local.plan(env=env)
    assert local.classify("local", 127, "env: 'x': No such file")[0] == "ConnectError"


@pytest.mark.parametrize("status, output, error, phase, words", [
    (255, "@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@", "HostKeyError", "connect",
     "changed"),
    (255, "No ED25519 host key is known for web1 and you have requested strict checking.\n"
          "Host key verification failed.", "HostKeyError", "connect", "web1"),
    (255, "Host key verification failed.\r\n", "HostKeyError", "connect", "known_hosts"),
    (255, "ann@web1: Permission denied (publickey,password).", "AuthenticationError", "login", "publickey,password"),
    (255, "Received disconnect from 1.2.3.4 port 22:2: Too many authentication failures", "AuthenticationError",
     "login", "identity_file"),
    (255, "ssh: Could not resolve hostname nohost: Name or service not known", "ConnectError", "connect",
     "no host named nohost"),
    (255, "ssh: connect to host web1 port 22: Connection refused", "ConnectError", "connect", "web1 port 22"),
    (255, "ssh: connect to host web1 port 22: Connection timed out", "ConnectTimeout", "connect",
     "no answer from web1"),
    (255, "ssh: connect to host web1 port 22: No route to host", "ConnectError", "connect", "No route to host"),
    (255, "ssh: connect to host web1 port 22: Network is unreachable", "ConnectError", "connect", "no way to web1"),
    (255, "Connection timed out during banner exchange", "ConnectTimeout", "connect", "said nothing"),
    (255, "Timeout, server web1 not responding.", "ConnectError", "connect", "stopped answering"),
    (255, "kex_exchange_identification: Connection closed by remote host", "ConnectError", "connect", "MaxStartups"),
    (255, "Unable to negotiate with 1.2.3.4 port 22: no matching host key type found.", "ConnectError", "connect",
     "no algorithm"),
    (255, "/x/config: line 3: Bad configuration option: dinner", "ConnectError", "start", "dinner"),
    (255, "", "ConnectError", "connect", "status 255"),
    (255, "note: the file said Permission denied (x)", "ConnectError", "connect", "status 255"),
    (127, "bash: line 1: python3: command not found", "ConnectError", "boot", "python="),
    (126, "bash: line 1: /x/python3: Permission denied", "ConnectError", "boot", "python="),
    (1, "This account is currently not available.", "ConnectError", "boot", "may not log in"),
    (1, "Permission denied (publickey)", "ConnectError", "boot", "status 1"),
    (-15, "", "ConnectError", "boot", "signal 15"),
])
def test_classify(status, output, error, phase, words):
    kind, message, where = ssh.classify("ssh", status, "a line before\n" + output if output else "")
    assert (kind, where) == (error, phase) and words in message
    assert issubclass(getattr(errors, kind), errors.ConnectError)
