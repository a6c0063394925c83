"""In a FreeBSD jail, by ``jexec``."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.jail`` takes beside the target: what ``plan`` does."""
