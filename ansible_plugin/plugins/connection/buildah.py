"""``contextree.fast.buildah``: working containers of buildah, by one ``buildah run`` for each."""

from ansible_collections.contextree.fast.controller import contained

NAME = "containers.podman.buildah"
DOCUMENTATION = contained.documentation(NAME)


class Connection(contained.Contained, contained.collection(NAME)):  # type: ignore[misc]
    """As ``containers.podman.buildah``, but faster."""

    def _buildah(self, cmd, *args, **kwargs):
        if cmd == "umount" and not self._connected:
            return 0, b"", b""  # it has not been mounted
        return super()._buildah(cmd, *args, **kwargs)
