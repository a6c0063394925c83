"""In another root directory, by ``chroot``."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.chroot`` takes beside the target: what ``plan`` does."""
