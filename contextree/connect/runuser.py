"""Another account, by ``runuser``: from root, without a password."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.runuser`` takes beside the target: what ``plan`` does."""
