"""What core's shell plugin has made is known again by what it was made of, whatever core puts around it."""

import shlex

import pytest

from ansible_plugin.controller.shell import Notes


class Shell:
    """Makes the texts that core's ``sh`` makes."""

    def mkdtemp(self, basefile: str, system: bool = False, mode: int = 0o700, tmpdir: str = "~/.ansible/tmp") -> str:
        path = tmpdir + "/" + basefile
        return ('( umask 77 && mkdir -p "` echo %s `"&& mkdir "` echo %s `" && echo %s="` echo %s `" )'
                % (tmpdir, path, basefile, path))

    def remove(self, path: str, recurse: bool = False) -> str:
        return "rm -f -r %s > /dev/null 2>&1" % shlex.quote(path)

    def chmod(self, paths: list[str], mode: str) -> str:
        return shlex.join(["chmod", mode, *paths])

    def expand_user(self, user_home_path: str, username: str = "") -> str:
        return "echo " + user_home_path + username

    def env_prefix(self, **kwargs: object) -> str:
        return " ".join("%s=%s" % (name, shlex.quote(str(value))) for name, value in kwargs.items())

    def build_module_command(self, env_string: str, shebang: str, cmd: str, arg_path: str | None = None) -> str:
        return " ".join(part for part in (env_string, shebang.removeprefix("#!"), cmd, arg_path or "") if part)


class Plugin:
    """Puts sudo around a command."""

    def build_become_command(self, cmd: str, shell: object) -> str:
        return "sudo -u root /bin/sh -c " + shlex.quote("echo BECOME-SUCCESS-x ; " + cmd)


@pytest.fixture
def shell() -> Shell:
    return Shell()


@pytest.fixture
def notes(shell: Shell) -> Notes:
    return Notes(shell)


def meaning(notes: Notes, text: str) -> object:
    return notes.meaning.get(notes.unwrapped("/bin/sh -c " + shlex.quote(text))[1])


def test_texts_of_the_shell_are_known_by_what_they_were_made_of(shell: Shell, notes: Notes) -> None:
    assert meaning(notes, shell.mkdtemp("ansible-tmp-1", tmpdir="/home/x/.ansible/tmp")) == (
        "mkdtemp", ("/home/x/.ansible/tmp/ansible-tmp-1", 0o700, "ansible-tmp-1"))
    assert meaning(notes, shell.remove("/home/x/a b", recurse=True)) == ("remove", "/home/x/a b")
    assert meaning(notes, shell.chmod(["/a/b", "/a/it's"], "u+x")) == ("add_mode", (["/a/b", "/a/it's"], 0o100))
    assert meaning(notes, shell.expand_user("~")) == ("home", "")
    assert meaning(notes, shell.expand_user("~some.one-2")) == ("home", "some.one-2")
    env = shell.env_prefix(A="1 2", B="it's")
    assert meaning(notes, shell.build_module_command(env, "#!/usr/bin/python3 -s", "")) == (
        "python", (["/usr/bin/python3", "-s"], {"A": "1 2", "B": "it's"}))


@pytest.mark.parametrize("text", [
    lambda shell: shell.mkdtemp("ansible-tmp-1", tmpdir="$HOME/tmp"),
    lambda shell: shell.mkdtemp("ansible-tmp-1", tmpdir="/home/$(id)/tmp"),
    lambda shell: shell.chmod(["/a"], "u=rwx,g=rx"),
    lambda shell: shell.expand_user("~$(id)"),
    lambda shell: shell.build_module_command("", "#!/usr/bin/python3", "/tmp/module.py"),
    lambda shell: shell.build_module_command("X=1", "#!/usr/bin/python3", ""),
    lambda shell: shell.build_module_command("", "#!/usr/bin/python3 'open", ""),
    lambda shell: "echo anything",
])
def test_what_a_shell_has_to_read_has_no_meaning_here(shell: Shell, notes: Notes, text) -> None:
    assert meaning(notes, text(shell)) is None


@pytest.mark.parametrize("text", ["echo a", "a'b", "'", "", "plain", "it's \"x\" $y `z`\n\\"])
def test_what_core_puts_around_a_command_comes_off(notes: Notes, text: str) -> None:
    assert notes.unwrapped("/bin/sh -c " + shlex.quote(text)) == ("/bin/sh", text)


def test_what_is_put_around_by_nobody_stays(notes: Notes) -> None:
    for text in "echo a", "/bin/sh -c 'a' b", "/bin/sh -c 'a'b'c'", "/bin/sh -x 'a'":
        assert notes.unwrapped(text) == (None, text)


def test_what_become_puts_around_is_known(shell: Shell, notes: Notes) -> None:
    plugin = Plugin()
    notes.become(plugin)
    text = plugin.build_become_command("whoami", shell)
    assert notes.inner == {text: ("whoami", None)}
