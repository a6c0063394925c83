"""Fields of tasks that core validates again for each task, though nothing can come of it.

Core goes through some 120 fields of a task, of the blocks around it, and of its play context, for each task and item.
Most have no value. ``post_validate_attribute`` of ansible-core 2.19 and newer tells by its result what it made of one;
of these it is known beforehand, by what core itself goes by: the field's own description (``Attribute``), the class that
has it, and the value. Everything else is core's. Before 2.19 there is no such method, and nothing is done here.
"""

import contextlib
import inspect
from typing import Any

from ansible.playbook.attribute import Attribute, FieldAttribute, NonInheritableFieldAttribute
from ansible.playbook.base import FieldAttributeBase
from ansible.utils.sentinel import Sentinel

PLAYBOOK = "ansible.playbook."  # where core's own classes are
NEVER = "", False, None  # a field which this class leaves to others, whatever its value is

# (the name by which an object has the value, whether only an object that stands alone has all of it there, the type of
# values that are as they should be)
Known = tuple[str, bool, "type | None"]


def known(undo: contextlib.ExitStack) -> None:
    """Have core not look at these. Raises where core is another one."""
    plain: Any = FieldAttributeBase.post_validate_attribute
    kinds: dict[type, dict[str, Known]] = {}

    def post_validate_attribute(self: Any, name: str, *, templar: Any) -> Any:
        """See core."""
        kind = type(self)
        fields = kinds.get(kind)
        if fields is None:
            fields = kinds[kind] = _fields(kind)
        if name in fields:
            place, inherits, fine = fields[name]
            if not place:
                return Sentinel
            values = self.__dict__
            value = values.get(place, Sentinel)
            if not inherits or values.get("_squashed") or values.get("_finalized"):
                if value is None:
                    return Sentinel
                if type(value) is fine:
                    return value
        return plain(self, name, templar=templar)

    undo.callback(setattr, FieldAttributeBase, "post_validate_attribute", plain)
    FieldAttributeBase.post_validate_attribute = post_validate_attribute


def _fields(kind: Any) -> dict[str, Known]:
    """Of which fields of a class it can be known what core makes of them."""
    own = FieldAttributeBase.get_validated_value, FieldAttributeBase._get_validated_value
    if not kind.__module__.startswith(PLAYBOOK) or (kind.get_validated_value, kind._get_validated_value) != own:
        return {}
    return {name: found for name, attribute in kind.fattributes.items() if (found := _field(kind, name, attribute))}


def _field(kind: Any, name: str, attribute: Attribute) -> Known | None:
    if (attribute.static or attribute.required or type(attribute) not in (FieldAttribute, NonInheritableFieldAttribute)
            or inspect.getattr_static(kind, name) is not attribute or hasattr(kind, "_get_attr_" + attribute.name)):
        return None
    if not kind._post_validate_object and not attribute.always_post_validate:
        return NEVER
    inherits = type(attribute) is FieldAttribute and hasattr(kind, "_get_parent_attribute")
    fine = {"bool": bool, "int": int}.get(attribute.isa) if not hasattr(kind, "_post_validate_" + name) else None
    return "_" + attribute.name, inherits, fine
