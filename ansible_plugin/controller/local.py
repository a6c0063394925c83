"""``local``: the controller itself, with modules run in processes that are forked from a warm one."""

import os
import shlex
import sys
from typing import Any

from ansible import constants as C  # noqa: N812  as everywhere in ansible
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import local as core

import contextree
from contextree.connect import local

from . import become, fast, worker
from .link import Link

_environ: dict[str, str] = {}  # what there was when a link was last made, and that
_link: Link | None = None


def link(folder: str) -> Link:
    """The same for all whose processes have the same environment. ``folder``: the run's own one."""
    global _environ, _link
    if _link is None or _environ != os.environ:
        plan = local.plan(sys.executable, name="local")
        _environ, digest = dict(os.environ), worker.environment()
        if digest == worker.started_with(folder):
            _link = Link("local", plan)
        else:  # somebody has changed it meanwhile: a callback plugin, another action
            _link = Link("local." + digest, plan, environ=_environ)
    return _link


def quoted(word: str | bytes) -> bytes:
    """A word for a shell."""
    text = word if isinstance(word, str) else word.decode("utf-8", "surrogateescape")
    return shlex.quote(text).encode("utf-8", "surrogateescape")


class Local(fast.Fast):
    """What our ``local`` mixes into core's."""

    put_mode = 0o666  # core copies the content alone

    def link(self) -> Link:
        """See Fast."""
        return link(C.DEFAULT_LOCAL_TMP)

    def login_argv(self, cmd: str) -> list[str | None]:
        """See Fast."""
        return [(C.DEFAULT_EXECUTABLE or "/bin/sh").split()[0], "-c", cmd]

    def shell_variables(self) -> dict[str, str]:
        """See Fast: a shell tells its programs where they are, by the name that it knows."""
        cwd, known = os.fsdecode(self.cwd or os.getcwd()), os.environ.get("PWD", "")  # bytes before 2.19
        same = known.startswith("/") and os.path.exists(known) and os.path.samefile(known, cwd)
        return {"PWD": known if same else os.path.realpath(cwd)}

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> Any:
        """See core."""
        answer = None
        try:
            answer = self.at_once(cmd, sudoable)
            if answer is None and in_data:
                answer = self.act(cmd, in_data, sudoable, False)
            elif answer is None:
                self.settle()
        except (fast.Stock, contextree.ConnectError) as why:
            self.fall_back(why)
        except contextree.ContextreeError as error:  # nobody knows whether it was done
            raise AnsibleConnectionFailure(str(error)) from None
        if answer is None:
            self.feeding = bool(in_data)
            try:
                answer = core.Connection.exec_command(self, cmd, in_data, sudoable)
            finally:
                self.feeding = True
        return answer

    def fetch_file(self, in_path: str, out_path: str) -> Any:
        """See core."""
        try:
            self.settle()
        except (fast.Stock, contextree.ContextreeError) as why:
            self.fall_back(why)
        return core.Connection.put_file(self, in_path, out_path)

    def patience(self) -> float:
        """See Becoming: ansible-core 2.19 and newer have an option for this."""
        return float(getattr(self, "_become_success_timeout", 0)) or super().patience()

    def nobody_let_in(self, refused: become.Refused) -> None:
        """See Becoming: what core says has in it what the command has said."""
        self.settle()
        raise fast.Stock("become by %s: %s" % (refused.way.method, refused.kind))

    def judged(self, words: list[Any]) -> Any:
        """See Becoming."""
        return core.Connection.exec_command(self, b" ".join(map(quoted, words)), None, True)
