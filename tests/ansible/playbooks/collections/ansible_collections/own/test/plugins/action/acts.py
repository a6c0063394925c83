"""An action: runs modules and commands by itself."""

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Two modules, a command, a file and its removal."""

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        folder = self._make_tmp_path()
        path = self._connection._shell.join_path(folder, "given")
        self._transfer_data(path, "some\ndata\n")
        self._fixup_perms2((folder, path))
        read = self._low_level_execute_command("cat %s; echo there is more >&2; pwd" % path, chdir="/")
        pinged = self._execute_module(module_name="ansible.builtin.ping", module_args={"data": "pang"},
                                      task_vars=task_vars)
        stat = self._execute_remote_stat(path, all_vars=task_vars, follow=False)
        home = self._remote_expand_user("~/x")
        known = self._execute_module(module_name="own.test.hello", module_args={"name": "action"}, task_vars=task_vars)
        for noise in ("invocation", "ansible_facts"):
            pinged.pop(noise, None)
            known.pop(noise, None)
        result.update(read={key: read[key] for key in ("rc", "stdout", "stderr")}, pinged=pinged, hello=known,
                      home=home, size=stat["size"], checksum=stat["checksum"], mode=stat["mode"],
                      there=self._remote_file_exists(path), absent=self._remote_file_exists(path + "x"))
        self._remove_tmp_path(folder)
        return result
