"""What all schedules share: their form as JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["Spec"]


class Spec:
    """Base of the schedules, which can all be written as JSON."""

    def spec(self) -> dict[str, Any]:
        """Return the kind and the fields, as JSON types.

        Returns
        -------
        dict
            ``{"kind": name of the class, field: value, ...}``.

        Examples
        --------
        >>> from dqlearn.schedules import Linear
        >>> Linear(1.0, 0.1, over=1000).spec()
        {'kind': 'Linear', 'start': 1.0, 'end': 0.1, 'over': 1000}
        """
        names = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        return {"kind": type(self).__name__, **{name: getattr(self, name) for name in names}}

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)
