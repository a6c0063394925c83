"""``contextree.fast.oc``: pods of OpenShift, by one ``oc exec`` for each."""

from ansible_collections.contextree.fast.controller import contained

NAME = "community.okd.oc"
DOCUMENTATION = contained.documentation(NAME)


class Connection(contained.Contained, contained.collection(NAME)):  # type: ignore[misc]
    """As ``community.okd.oc``, but faster."""

    put_mode = 0o666
    connect_is_dear = False

    def refuse(self):
        contained.Contained.refuse(self)
        if isinstance(self.get_option("oc_kubeconfig"), dict):
            raise contained.fast.Stock("a configuration that is made for each command")
