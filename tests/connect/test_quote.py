"""connect.quote with the shells that people have as login shells."""

import json
import shutil
import subprocess
import sys

import pytest

from contextree.connect.quote import quote
from contextree.core.wire.errors import UsageError

SHELLS = {"dash": ["dash"], "bash": ["bash"], "zsh": ["zsh"], "ksh": ["mksh"], "tcsh": ["tcsh"], "csh": ["bsd-csh"],
          "fish": ["fish"], "ash": ["busybox", "ash"]}
SHOW = "import json,sys; print(json.dumps(sys.argv[1:]))"
WORDS = [
    "plain", "-c", "", " ", "a b", "  two  blanks ", "$HOME", "`id`", "$(id)", "${HOME}", "*", "?", "[a-z]", "{a,b}",
    "~", "~root", "#comment", "a#b", "&", "|", ";", "<", ">", "<(id)", "^a^b", "%1", "%", "@", "=ls", "a=b", "A=1",
    '"', '"a b"', "é日本", "+/=", "(a)", "&&", "if", "--", "-", 'x("a;b",c<=1);y', "x" * 2500,
]


@pytest.fixture(autouse=True)
def installed(request):
    """Each shell that the machine has; run_tests.sh installs all of them where it may."""
    name = SHELLS[request.node.callspec.params["shell"]][0] if "shell" in request.fixturenames else "sh"
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_every_shell_reads_the_words_as_they_are(shell, locale, tmp_path):
    text = quote([sys.executable, "-X", "utf8", "-c", SHOW, *WORDS])
    env = {"LC_ALL": locale, "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([*SHELLS[shell], "-c", text], capture_output=True, env=env, cwd=tmp_path)
    assert json.loads(done.stdout) == WORDS, done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_home_directory_and_a_first_word_with_blanks(shell, tmp_path):
    home = tmp_path / "the home"
    home.mkdir()
    (home / "my python").symlink_to(sys.executable)
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    for first in "~/my python", str(home / "my python"):
        text = quote([first, "-c", SHOW, "~/x"], tilde=True)
        done = subprocess.run([*SHELLS[shell], "-c", text], capture_output=True, env=env)
        assert json.loads(done.stdout) == ["~/x"], done.stderr


@pytest.mark.parametrize("word", ["it's", "a\\b", "a!b", "a\nb", "a\rb", "a\0b", "\x1b[m", "\x7f", "\x85", "\u2028"])
def test_words_that_some_shell_would_change_are_refused(word):
    with pytest.raises(UsageError):
        quote(["python3", word])


def test_nothing_to_quote():
    with pytest.raises(UsageError):
        quote([])
