"""``contextree.fast.iocage``: jails of iocage, by one ``jexec`` for each."""

from ansible_collections.contextree.fast.controller import contained

NAME = "community.general.iocage"
DOCUMENTATION = contained.documentation(NAME)


class Connection(contained.Contained, contained.collection(NAME)):  # type: ignore[misc]
    """As ``community.general.iocage``, but faster."""

    put_mode = 0o666
    connect_is_dear = False
