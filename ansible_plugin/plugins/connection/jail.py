"""``contextree.fast.jail``: jails of FreeBSD, by one ``jexec`` for each."""

from ansible_collections.contextree.fast.controller import contained

NAME = "community.general.jail"
DOCUMENTATION = contained.documentation(NAME)


class Connection(contained.Contained, contained.collection(NAME)):  # type: ignore[misc]
    """As ``community.general.jail``, but faster."""

    put_mode = 0o666
    connect_is_dear = False
