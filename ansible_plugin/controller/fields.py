"""Fields of tasks that core validates again for each task, though nothing can come of it.

Core goes through some 120 fields of a task, of the blocks around it, and of its play context, for each task and item.
Most have no value, or one that is no template and of the right kind. ``post_validate_attribute`` of ansible-core 2.19
and newer tells by its result what it made of one; of these it is known beforehand, by what core itself goes by: the
field's own description (``Attribute``), the class that has it, and the value. Everything else is core's. Before 2.19
there is no such method, and nothing is done here.
"""

import contextlib
import inspect
from typing import Any, NamedTuple

from ansible.playbook.attribute import Attribute, FieldAttribute, NonInheritableFieldAttribute
from ansible.playbook.base import FieldAttributeBase
from ansible.playbook.task_include import TaskInclude
from ansible.utils.sentinel import Sentinel

PLAYBOOK = "ansible.playbook."  # where core's own classes are
#: What a value may have that core 2.19 and newer adds, and that templating then leaves as it is.
HARMLESS = {"Origin", "TrustedAsTemplate"}
UNTAGGED = bool, int, float, str


class Known(NamedTuple):
    """A field of which something is known."""

    place: str = ""  # the name by which an object has the value; "": this class leaves the field to others
    inherits: bool = False  # only an object that stands alone has all of it there
    default: Any = Sentinel  # where there is none; Sentinel: that is made anew each time
    fine: tuple[type, ...] = ()  # the types of values that are as they should be


NEVER = Known()


def known(undo: contextlib.ExitStack) -> None:
    """Have core not look at these. Raises where core is another one."""
    from ansible._internal._templating._engine import TemplateEngine
    from ansible.module_utils._internal._datatag import _AnsibleTaggedInt, _AnsibleTaggedStr

    plain: Any = FieldAttributeBase.post_validate_attribute
    kinds: dict[type, dict[str, Known]] = {}
    tagged: dict[type, type] = {str: _AnsibleTaggedStr, int: _AnsibleTaggedInt}
    for each in tagged.values():
        each._ansible_tags_mapping  # type: ignore[attr-defined]  # noqa: B018  raises where there is none

    def post_validate_attribute(self: Any, name: str, *, templar: Any) -> Any:
        """See core."""
        kind = type(self)
        fields = kinds.get(kind)
        if fields is None:
            fields = kinds[kind] = _fields(kind, tagged)
        field = fields.get(name)
        if field is NEVER:
            return Sentinel
        if field is not None:
            value = _value(self, name, field)
            if value is None:
                return Sentinel
            if type(value) in field.fine and type(templar) is TemplateEngine and _stays(value):
                return [] if type(value) is list else value  # core makes a list of its own, which may be added to
        return plain(self, name, templar=templar)

    undo.callback(setattr, FieldAttributeBase, "post_validate_attribute", plain)
    FieldAttributeBase.post_validate_attribute = post_validate_attribute


def _value(thing: Any, name: str, field: Known) -> Any:
    """What core would look at."""
    values = thing.__dict__
    value = Sentinel
    if not field.inherits or values.get("_squashed") or values.get("_finalized"):
        value = values.get(field.place, Sentinel)
        if value is Sentinel:
            value = field.default
    return getattr(thing, name) if value is Sentinel else value


def _stays(value: Any) -> bool:
    """Whether templating leaves a value of one of these types as it is."""
    if isinstance(value, list):
        return not value
    if isinstance(value, str) and ("{" in value or value[:1] == "#"):
        return False
    return type(value) in UNTAGGED or {tag.__name__ for tag in value._ansible_tags_mapping} <= HARMLESS


def _fields(kind: Any, tagged: dict[type, type]) -> dict[str, Known]:
    """Of which fields of a class it can be known what core makes of them."""
    own = FieldAttributeBase.get_validated_value, FieldAttributeBase._get_validated_value
    if (not kind.__module__.startswith(PLAYBOOK) or (kind.get_validated_value, kind._get_validated_value) != own
            or issubclass(kind, TaskInclude)):  # some of its fields are not to be looked at
        return {}
    found = {name: _field(kind, name, attribute, tagged) for name, attribute in kind.fattributes.items()}
    return {name: field for name, field in found.items() if field}


def _field(kind: Any, name: str, attribute: Attribute, tagged: dict[type, type]) -> Known | None:
    if (attribute.static or attribute.required or type(attribute) not in (FieldAttribute, NonInheritableFieldAttribute)
            or inspect.getattr_static(kind, name) is not attribute or hasattr(kind, "_get_attr_" + attribute.name)):
        return None
    if not kind._post_validate_object and not attribute.always_post_validate:
        return NEVER
    inherits = type(attribute) is FieldAttribute and hasattr(kind, "_get_parent_attribute")
    right = {"bool": bool, "int": int, "float": float, "string": str, "list": list}.get(attribute.isa)
    fine: tuple[type, ...] = ()
    if right is not None and not hasattr(kind, "_post_validate_" + name):
        fine = (right, tagged[right]) if right in tagged else (right,)
    return Known("_" + attribute.name, inherits, Sentinel if callable(attribute.default) else attribute.default, fine)
