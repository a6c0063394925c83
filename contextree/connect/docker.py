"""In a container that runs, by ``docker exec``."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.docker`` takes beside the target: what ``plan`` does."""
