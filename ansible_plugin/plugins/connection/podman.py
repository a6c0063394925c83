"""``contextree.fast.podman``: podman containers, by one ``podman exec`` for each."""

from ansible_collections.contextree.fast.controller import contained

NAME = "containers.podman.podman"
DOCUMENTATION = contained.documentation(NAME)


class Connection(contained.Contained, contained.collection(NAME)):  # type: ignore[misc]
    """As ``containers.podman.podman``, but faster."""

    def entrance(self, words):
        at = len(words) - words[::-1].index("exec")
        return contained.Contained.entrance(self, [*words[:at], "-i", *words[at:]])
