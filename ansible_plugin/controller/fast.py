"""What our connections have in common: a payload that we know goes to the host's runner, all else as a command."""

import hashlib
import os
import pickle
from typing import Any

import contextree
from ansible import constants as C  # noqa: N812  as everywhere in ansible
from ansible.errors import AnsibleConnectionFailure

from ..target import runner
from . import payload, worker


class Fast:
    """Mixed into a connection of core."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.main_pid = int(kwargs.get("ansible_playbook_pid") or os.getppid())
        super().__init__(*args, **kwargs)

    def plan(self) -> Any:
        """How the host is reached."""
        raise NotImplementedError

    def ask(self, method: str, *args: Any) -> Any:
        """Have the multiplexer do something at the host."""
        plan = self.plan()
        key = hashlib.sha256(pickle.dumps((plan.argv, plan.python, plan.env))).hexdigest()
        hosts = worker.hosts(C.DEFAULT_LOCAL_TMP, self.main_pid)
        try:
            return getattr(hosts, method)(key, plan, *args)
        except contextree.ConnectError as error:
            raise AnsibleConnectionFailure(str(error)) from error
        except contextree.ContextDied as error:
            raise AnsibleConnectionFailure(str(error)) from error

    def module(self, data: bytes) -> Any:
        """Run what core wants to feed to Python, if it is a payload that we know: (status, stdout, stderr)."""
        found = payload.take_apart(data)
        if found is None:
            return None
        answer = self.ask("module", found.digest, None, found.task)
        if answer == runner.MISSING:
            answer = self.ask("module", found.digest, found.zip_data(), found.task)
        return answer
