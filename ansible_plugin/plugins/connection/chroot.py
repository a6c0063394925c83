"""``contextree.fast.chroot``: a chroot, by one ``chroot`` for each."""

from ansible_collections.contextree.fast.controller import contained

NAME = "community.general.chroot"
DOCUMENTATION = contained.documentation(NAME)


class Connection(contained.Contained, contained.collection(NAME)):  # type: ignore[misc]
    """As ``community.general.chroot``, but faster."""

    put_mode = 0o666
    connect_is_dear = False
