"""Signatures of equinox modules in the API pages: their fields are their arguments.

A griffe extension. An `eqx.Module` is a dataclass without the decorator that says so, and griffe
reads source without running it, so it does not see the `__init__` that the fields make.
"""

from typing import Any

import griffe


class ModuleSignatures(griffe.Extension):
    """Give a class that has fields and no `__init__` the `__init__` those fields make."""

    def on_class_members(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        if "__init__" in cls.members or not cls.bases or cls.decorators:
            return
        parameters = [griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)]
        for name, member in cls.members.items():
            if not (isinstance(member, griffe.Attribute) and member.annotation is not None):
                continue
            of_class = "instance-attribute" not in member.labels  # griffe takes ClassVar off
            if of_class or "AbstractVar" in str(member.annotation):
                continue
            value = None if member.value is None else str(member.value)
            parameters.append(
                griffe.Parameter(
                    name,
                    annotation=member.annotation,
                    kind=griffe.ParameterKind.positional_or_keyword,
                    default=None if value and value.startswith("eqx.field(static") else value,
                )
            )
        if len(parameters) > 1 and not cls.name.startswith("Abstract"):
            made = griffe.Function("__init__", parameters=griffe.Parameters(*parameters))
            made.parent = cls
            cls.set_member("__init__", made)
