"""``contextree.fast.podman``: podman containers, by one ``podman exec`` for each."""

from ansible_collections.contextree.fast.controller import contained

NAME = "containers.podman.podman"
DOCUMENTATION = contained.documentation(NAME)


class Connection(contained.Contained, contained.collection(NAME)):  # type: ignore[misc]
    """As ``containers.podman.podman``, but faster."""

    def entrance(self, way):
        at = len(way.words) - way.words[::-1].index("exec")
        return [*way.words[:at], "-i", *way.words[at:], contained.PYTHON]
