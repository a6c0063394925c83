"""The same call by subprocess.run and by Context.run gives the same: status, output, exceptions."""

import io
import os
import subprocess
import sys

import pytest

import contextree
from tests.lab.poll import until
from tests.run import far

SH = "/bin/sh"
PLAIN = [  # what is the same everywhere: args, options
    (["true"], {}),
    (["false"], {}),
    (["printf", "no newline at the end"], {}),
    ([SH, "-c", "echo out; echo err >&2"], {}),
    ([SH, "-c", "exit 255"], {}),
    ([SH, "-c", "kill -9 $$"], {}),
    ([SH, "-c", "kill -TERM $$"], {}),
    ([SH, "-c", "printf '\\000\\377\\200\\r\\n'"], {}),
    ("exit 7", {"shell": True}),
    ("echo $0-$1 \"$HOME\" | tr - _", {"shell": True}),
    (["echo \"$1\"", "zero", "one"], {"shell": True}),
    ("true", {}),
    (["pwd"], {"cwd": "/usr"}),
    ([SH, "-c", "echo $A-$PATH"], {"env": {"A": "a", "PATH": "/bin:/usr/bin"}}),
    (["env"], {"env": {}}),
    (["cat"], {"input": b"some\0thing"}),
    (["cat"], {"input": b""}),
    (["cat"], {"input": bytearray(b"x" * 300_000)}),
    (["cat"], {"stdin": subprocess.DEVNULL}),
    (["true"], {"input": b"never read" * 100_000}),
    ([SH, "-c", "exec 0<&-; echo closed"], {"input": b"x" * 1_000_000}),
    ([SH, "-c", "exec 1>&- 2>&-; exit 4"], {}),
    (["head", "-c", "3"], {"input": b"abcdef" * 100_000}),
    ([SH, "-c", "echo a; echo b >&2; echo c"], {"stderr": subprocess.STDOUT}),
    ([SH, "-c", "echo a; echo b >&2"], {"stdout": subprocess.DEVNULL}),
    ([SH, "-c", "echo a; echo b >&2"], {"stderr": subprocess.DEVNULL}),
    (["wc", "-c"], {"input": "grüße\n", "text": True}),
    (["printf", "a\\r\\nb\\rc\\n"], {"text": True}),
    (["printf", "\\303\\274"], {"encoding": "latin-1"}),
    (["printf", "\\377"], {"encoding": "utf-8", "errors": "surrogateescape"}),
    (["cat"], {"input": "a\udcffb", "encoding": "utf-8", "errors": "surrogateescape"}),
    (["cat"], {"input": "line\r\nend\n", "universal_newlines": True}),
    ([b"printf", b"bytes \377"], {}),
    ([os.path.join("/bin", "echo"), "-n"], {"check": True}),
]
FAILING = [
    ([["no-such-program"]], {}, FileNotFoundError),
    ([["/no/such/program"]], {}, FileNotFoundError),
    ([["/etc/passwd"]], {}, PermissionError),
    ([["/etc"]], {}, PermissionError),
    ([["true"]], {"cwd": "/no/such/folder"}, FileNotFoundError),
    ([["true"]], {"cwd": "/etc/passwd"}, NotADirectoryError),
    ([["/etc/passwd/x"]], {}, NotADirectoryError),
    ([[SH, "-c", "echo out; echo err >&2; exit 3"]], {"check": True}, subprocess.CalledProcessError),
    ([[SH, "-c", "kill -9 $$"]], {"check": True, "text": True}, subprocess.CalledProcessError),
    ([["printf", "\\377"]], {"text": True, "encoding": "utf-8"}, UnicodeDecodeError),
    ([["cat"]], {"input": "text"}, TypeError),
    ([["cat"]], {"input": b"x", "stdin": subprocess.DEVNULL}, ValueError),
    ([["true", "a\0b"]], {}, ValueError),
    ([["true"]], {"no_such_option": 1}, TypeError),
]


def here(args, **options):
    """By subprocess, with the defaults of Context.run."""
    if not {"stdout", "stderr"} & set(options):
        options["capture_output"] = True
    else:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(args, **options)


@pytest.mark.parametrize(("args", "options"), PLAIN, ids=[repr(row)[:70] for row in PLAIN])
def test_equal_results(local, fds, args, options):
    wanted, got = here(args, **options), local.run(args, **options)
    assert isinstance(got, subprocess.CompletedProcess)
    assert vars(got) == vars(wanted)


@pytest.mark.parametrize(("args", "options", "kind"), FAILING, ids=[repr(row[:2])[:70] for row in FAILING])
def test_equal_errors(local, fds, args, options, kind):
    with pytest.raises(kind) as wanted:
        here(*args, **options)
    with pytest.raises(kind) as got:
        local.run(*args, **options)
    assert type(got.value) is type(wanted.value)
    if isinstance(got.value, OSError):
        assert got.value.errno == wanted.value.errno
    if isinstance(got.value, subprocess.CalledProcessError):
        assert vars(got.value) == vars(wanted.value)


def test_every_kind_of_context(place):
    done = place.run("read line; echo got $line; echo err >&2; exit 3", shell=True, input="some\n", text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "got some\n", "err\n")
    big = os.urandom(700_000)
    assert place.run(["cat"], input=big).stdout == big
    assert place.run([SH, "-c", "kill -15 $$"]).returncode == -15
    for args, error in ((["no-such-program"], FileNotFoundError), (["/etc/passwd"], PermissionError)):
        with pytest.raises(error):
            place.run(args)
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        place.run("echo before; sleep 100", shell=True, timeout=0.5, grace=0.1)
    assert caught.value.output == b"before\n"
    assert place.run(["tty"], pty=True).stdout.startswith(b"/dev/")
    with place.popen(["cat"], text=True) as process:
        process.stdin.write("line\n")
        assert process.stdout.readline() == "line\n"
        process.stdin.close()
        assert process.wait() == 0


@pytest.mark.leaks("contexts that have children keep the template that these were forked from")
def test_every_kind_of_context_as_the_caller(place):
    assert place.with_options(timeout=50).call(far.caller, ["wc", "-c"]) == (0, b"200000\n", b"y", 0)


def test_the_environment_of_a_program(local):
    """Its own session and group, default signals, three descriptors, /dev/null to read, the context's variables."""
    facts = ("import os, signal, sys; print(os.getpid() == os.getpgid(0) == os.getsid(0), sorted(os.listdir("
             "'/proc/self/fd'))[:4], os.readlink('/proc/self/fd/0'), [s.name for s in (signal.SIGPIPE, signal.SIGINT, "
             "signal.SIGCHLD, signal.SIGXFSZ, signal.SIGHUP) if signal.getsignal(s) == signal.SIG_IGN], "
             "signal.pthread_sigmask(signal.SIG_BLOCK, []), os.environ.get('SEEN'))")
    script = ["sh", "-c", "grep -E 'Sig(Blk|Ign)' /proc/self/status; exec \"$@\"", "sh", sys.executable, "-S", "-c",
              facts]
    local.call(far.set_variable, "SEEN", "yes")
    said = local.run(script, text=True).stdout.splitlines()
    assert [line.split()[1].strip("0") for line in said[:2]] == ["", ""], "nothing blocked, nothing ignored"
    assert said[2] == "True ['0', '1', '2', '3'] /dev/null ['SIGPIPE', 'SIGXFSZ'] set() yes", "two by Python"


def test_variables_are_added_changed_and_removed(local):
    local.call(far.set_variable, "OLD", "old")
    show = [SH, "-c", "echo ${OLD-none} ${NEW-none}"]
    assert local.run(show, text=True).stdout == "old none\n"
    assert local.run(show, text=True, add_env={"NEW": "new"}).stdout == "old new\n"
    assert local.run(show, text=True, add_env={"OLD": None, "NEW": "1"}).stdout == "none 1\n"
    assert local.run(show, text=True, env={"PATH": "/bin"}, add_env={"NEW": "2"}).stdout == "none 2\n"


def test_outputs_to_files_functions_and_descriptors(local, fds, tmp_path):
    script = [SH, "-c", "printf 'ü\\r\\nx'; printf 'e\\n' >&2"]
    data, text, pieces, strings = io.BytesIO(), io.StringIO(), [], []
    assert vars(local.run(script, stdout=data, stderr=text)) == {
        "args": script, "returncode": 0, "stdout": None, "stderr": None}
    assert (data.getvalue(), text.getvalue()) == ("ü\r\nx".encode(), "e\n")
    local.run(script, stdout=pieces.append, stderr=subprocess.STDOUT)
    assert b"".join(pieces) == "ü\r\nxe\n".encode()
    local.run(script, stdout=strings.append, text=True)
    assert "".join(strings) == "ü\nx"
    with open(tmp_path / "out", "wb") as file:
        local.run(script, stdout=file.fileno())
    assert (tmp_path / "out").read_bytes() == "ü\r\nx".encode()


@pytest.mark.parametrize("given", [
    lambda path: {"stdin": open(path, "rb")}, lambda path: {"stdin": open(path, newline="")},
    lambda path: {"input": open(path, "rb")}, lambda path: {"stdin": os.open(path, os.O_RDONLY)},
    lambda path: {"input": (piece for piece in [b"one\n", b"", b"two"])}, lambda path: {"input": [b"one\n", b"two"]},
    lambda path: {"input": iter(["one\n", "two"]), "text": True},
], ids=["binary file", "text file", "file as input", "descriptor", "generator", "list", "text"])
def test_inputs_from_files_and_iterables(local, fds, tmp_path, given):
    (tmp_path / "in").write_bytes(b"one\ntwo")
    options = given(tmp_path / "in")
    source = options.get("stdin", options.get("input"))
    got = local.run(["cat"], **options).stdout
    assert got in (b"one\ntwo", "one\ntwo")
    if isinstance(source, int):
        os.close(source)
    elif hasattr(source, "read"):
        source.close()


@pytest.mark.leaks("the thread of the root that logs")
def test_output_to_the_log(local, caplog):
    with caplog.at_level("INFO", "contextree"):
        done = local.run([SH, "-c", "echo told; echo complained >&2"], capture_output=False)
        assert (done.stdout, done.stderr) == (None, None)
        local.call(print, "and this")
        until(lambda: {"told", "complained", "and this"} <= {text.rpartition(":0 ")[2] for text in caplog.messages},
              "the lines in the log")


@pytest.mark.parametrize("options", [
    {"stdin": subprocess.PIPE}, {"stdout": "a string"}, {"until": "forever"}, {"pty": True, "executable": "/bin/true"},
])
def test_what_makes_no_sense_is_refused(local, options):
    with pytest.raises(contextree.UsageError):
        local.run(["true"], **options)
    for args in ([], [1]):
        with pytest.raises(contextree.UsageError):
            local.run(args)


def test_the_loop_thread_may_not_wait(local, router):
    with pytest.raises(contextree.WouldBlockLoop):
        router.broker.call(local.run, ["true"])


def test_options_that_old_pythons_lack(router, local, pythons):
    assert local.run([SH, "-c", "umask"], umask=0o027).stdout == b"0027\n"
    if "3.6" in pythons:
        with router.local(python=pythons["3.6"].argv) as old, pytest.raises(
                contextree.UnsupportedPlatform, match=r"umask= needs Python 3\.9, and .* has 3\.6"):
            old.run(["true"], umask=0)


def test_words_that_are_not_ascii_arrive_as_they_are_here(router, pythons, tmp_path):
    """Also in a context whose own encoding has no such letters."""
    (tmp_path / "grüße").write_text("hello")
    minor = "3.6" if "3.6" in pythons else "3.8"
    env = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    with router.local(python=pythons[minor].argv, env=env) as old:
        assert old.run(["cat", tmp_path / "grüße"]).stdout == b"hello"
        assert old.run(["pwd"], cwd=str(tmp_path)).stdout == os.fsencode(tmp_path) + b"\n"
        done = old.run("echo ö $ä", shell=True, add_env={"ä": "Ä"}, env={"PATH": os.environ["PATH"]})
        assert done.stdout.startswith("ö ".encode())
        assert old.run([SH, "-c", "env"], add_env={"VALUE": "grüße"}).stdout.count("VALUE=grüße".encode()) == 1
        with pytest.raises(FileNotFoundError):
            old.run(["grüße"])


def test_too_many_words(local, fds):
    with pytest.raises(OSError, match="Argument list too long"):
        local.run(["true", "x" * 3_000_000])
