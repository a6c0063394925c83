"""What a shell plugin of core has made commands of, remembered, so that a connection need not parse shell.

Every command for temporary files, and the environment of a module, come from the connection's own shell plugin. Its
methods go on giving what they gave; beside that, what each text means is noted here. A become plugin puts more around a
text; what it put around what is noted the same way.
"""

import re
import shlex
from typing import Any

SAFE_PATH = re.compile(r"/[\w@%+=:,./-]*")  # what means itself in a shell without quotes
_QUOTED = re.compile(r"(\S+) -c '((?:[^']|'\"'\"')*)'")
_PLAIN = re.compile(r"(\S+) -c ([\w@%+=:,./-]+)")


class Notes:
    """What the commands of one connection mean. In one thread."""

    def __init__(self, shell: Any) -> None:
        self.meaning: dict[str, tuple[str, Any]] = {}
        self.inner: dict[str, tuple[str, str | None]] = {}  # what it is for, and the shell that become starts
        self.environments: dict[str, dict[str, str]] = {"": {}}
        for name in ("mkdtemp", "remove", "chmod", "expand_user", "env_prefix", "build_module_command"):
            if hasattr(shell, name):
                setattr(shell, name, self._noting(getattr(shell, name), getattr(self, "_" + name), shell))

    @staticmethod
    def _noting(method: Any, note: Any, shell: Any) -> Any:
        def noting(*args: Any, **kwargs: Any) -> Any:
            text = method(*args, **kwargs)
            note(shell, text, *args, **kwargs)
            return text

        return noting

    def become(self, plugin: Any) -> None:
        """Note what a become plugin makes of commands."""
        build = plugin.build_become_command

        def noting(cmd: Any, shell: Any) -> Any:
            text = build(cmd, shell)
            if text != cmd:
                self.inner[text] = cmd, getattr(shell, "executable", None)
            return text

        plugin.build_become_command = noting

    # -- what the methods of a shell plugin are given

    def _mkdtemp(self, shell: Any, text: str, basefile: Any = None, system: bool = False, mode: int = 0o700,
                 tmpdir: Any = None) -> None:
        found = re.search(r'echo ([^\s=]+)="` echo (/\S*) `"', text)
        if basefile and found and found[1] == basefile and SAFE_PATH.fullmatch(found[2]):
            self.meaning[text] = "mkdtemp", (found[2], mode, basefile)

    def _remove(self, shell: Any, text: str, path: str, recurse: bool = False) -> None:
        if recurse and path.startswith("/"):
            self.meaning[text] = "remove", path

    def _chmod(self, shell: Any, text: str, paths: Any, mode: str) -> None:
        bits = {"u+x": 0o100, "u+rwx": 0o700, "u+rx": 0o500}.get(mode)
        if bits is not None:
            self.meaning[text] = "add_mode", (list(paths), bits)

    def _expand_user(self, shell: Any, text: str, user_home_path: str, username: str = "") -> None:
        found = re.fullmatch(r"~([A-Za-z0-9_][\w.-]*|)", user_home_path)
        if found and not username:
            self.meaning[text] = "home", found[1]

    def _env_prefix(self, shell: Any, text: str, **kwargs: Any) -> None:
        self.environments[text.strip()] = {name: str(value) for name, value in kwargs.items()}

    def _build_module_command(self, shell: Any, text: str, env_string: str, shebang: Any, cmd: str,
                              arg_path: Any = None) -> None:
        env = self.environments.get(env_string.strip())
        if env is not None and not cmd.strip() and not arg_path:
            try:
                # from the text, not the shebang: whether a space in that ends a word depends on the version of core
                words = shlex.split(text.strip().removeprefix(env_string.strip()))
            except ValueError:
                return
            if words:
                self.meaning[text.strip()] = "python", (words, env)

    # -- what a connection asks

    def unwrapped(self, cmd: str) -> tuple[str | None, str]:
        """The shell that a text is for, if core has put one before it, and what that is to run."""
        found = _QUOTED.fullmatch(cmd)
        if found:
            return found[1], found[2].replace("'\"'\"'", "'")
        found = _PLAIN.fullmatch(cmd)
        return (found[1], found[2]) if found else (None, cmd)
