"""``contextree.fast.kubectl``: pods, by one ``kubectl exec`` for each."""

from ansible_collections.contextree.fast.controller import contained

NAME = "kubernetes.core.kubectl"
DOCUMENTATION = contained.documentation(NAME)


class Connection(contained.Contained, contained.collection(NAME)):  # type: ignore[misc]
    """As ``kubernetes.core.kubectl``, but faster."""

    put_mode = 0o666
    connect_is_dear = False

    def refuse(self):
        contained.Contained.refuse(self)
        if isinstance(self.get_option("kubectl_kubeconfig"), dict):
            raise contained.fast.Stock("a configuration that is made for each command")

    def act(self, cmd, in_data, sudoable, terminal):
        status, out, err = contained.Contained.act(self, cmd, in_data, sudoable, terminal)
        return status, out, err + (b"command terminated with exit code %d\n" % status if status else b"")
