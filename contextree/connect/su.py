"""Another account, by ``su``."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.su`` takes beside the target: what ``plan`` does."""
