"""``contextree.fast.lxd``: instances of LXD, by one ``lxc exec`` for each."""

from ansible_collections.contextree.fast.controller import contained

NAME = "community.general.lxd"
DOCUMENTATION = contained.documentation(NAME)


class Connection(contained.Contained, contained.collection(NAME)):  # type: ignore[misc]
    """As ``community.general.lxd``, but faster."""

    connect_is_dear = False

    def entrance(self, way):
        if way.words[-1] == "-c":  # su USER -c
            return [*way.words, contained.PYTHON_QUOTED]
        return contained.Contained.entrance(self, way)

    def login_argv(self, cmd):
        if self.ask().words[-1] == "-c":  # of the two -c, su takes the latter
            return [None, "-c", cmd]
        return contained.Contained.login_argv(self, cmd)
