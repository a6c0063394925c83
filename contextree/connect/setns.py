"""In the namespaces of a process or a container."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.setns`` takes beside the target: what ``plan`` does."""
