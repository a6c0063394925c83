"""In a working container, by ``buildah run``."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.buildah`` takes beside the target: what ``plan`` does."""
