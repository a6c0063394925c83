"""In a container that runs, by ``podman exec``."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.podman`` takes beside the target: what ``plan`` does."""
