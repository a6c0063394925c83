"""In an instance of Incus, by ``incus exec``."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.incus`` takes beside the target: what ``plan`` does."""
