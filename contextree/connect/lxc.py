"""In a container of classic LXC, by ``lxc-attach``."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.lxc`` takes beside the target: what ``plan`` does."""
