"""In a container of a Kubernetes pod, by ``kubectl exec``."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.kubectl`` takes beside the target: what ``plan`` does."""
