"""What is public is documented in full: every parameter by its name and in order, every result."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from operator import attrgetter
from types import ModuleType

import pytest
from numpydoc.validate import validate

import dqlearn

# The form of docstrings is the business of `numpydoc lint`; these codes are about their content.
MISSING_OR_WRONG = {
    "GL08": "no docstring",
    "PR01": "parameters not documented",
    "PR02": "unknown parameters",
    "PR03": "wrong order of parameters",
    "RT01": "no Returns section",
    "YD01": "no Yields section",
}


def public_names(module: ModuleType) -> Iterator[str]:
    """Dotted names of all that a module exports, with the methods and properties of its classes.

    A method that overrides one is documented where it is first defined.
    """
    for name in module.__all__:
        thing, path = getattr(module, name), f"{module.__name__}.{name}"
        if inspect.ismodule(thing):
            yield from public_names(thing)
        elif callable(thing):
            yield path
        if inspect.isclass(thing):
            yield from (
                f"{path}.{member}"
                for member, value in vars(thing).items()
                if not member.startswith("_")
                and (callable(value) or isinstance(value, property))
                and not any(hasattr(base, member) for base in thing.__bases__)
            )


@pytest.mark.parametrize("name", [*public_names(dqlearn)])
def test_is_documented_in_full(name: str) -> None:
    errors = dict(validate(name)["errors"])
    if getattr(attrgetter(name.removeprefix("dqlearn."))(dqlearn), "_is_protocol", False):
        errors.pop("PR01", None)  # nobody makes one
    assert not {code: errors[code] for code in MISSING_OR_WRONG.keys() & errors}
