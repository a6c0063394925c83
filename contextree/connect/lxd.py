"""In an instance of LXD, by ``lxc exec``."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.lxd`` takes beside the target: what ``plan`` does."""
