"""Another account, by ``sudo``."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.sudo`` takes beside the target: what ``plan`` does."""
