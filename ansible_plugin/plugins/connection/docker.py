"""``contextree.fast.docker``: docker containers, by one ``docker exec`` for each."""

from ansible_collections.contextree.fast.controller import contained

NAME = "community.docker.docker"
DOCUMENTATION = contained.documentation(NAME)


class Connection(contained.Contained, contained.collection(NAME)):  # type: ignore[misc]
    """As ``community.docker.docker``, but faster."""

    put_mode = 0o666
