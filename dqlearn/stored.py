"""What a stored table says of the run that made it, and the environment to go on with.

Invariant: what is read is data; an environment is made by its id, is imported by the name of its
module, or is the user's own.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dqlearn.envs.resolve import EnvLike, Resolved, resolve
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import IncompatibleTableError
from dqlearn.fingerprint import fingerprint
from dqlearn.origin import Origin
from dqlearn.settings import Settings, from_attributes
from dqlearn.spaces import BinsLike, SpaceIndex
from dqlearn.store import nested, read_attributes

__all__ = ["Stored", "check_fingerprint", "environment_of", "fingerprint_of"]


@dataclass(frozen=True)
class Stored:
    """What the attributes of a stored table say."""

    path: str
    environment: dict[str, Any]
    spaces: dict[str, dict[str, Any]]
    bins: BinsLike
    settings: Settings
    origin: Origin | None
    fingerprint: dict[str, str] | None = None

    @classmethod
    def at(cls, path: str) -> Stored:
        """Read them from a saved table.

        Raises
        ------
        IncompatibleTableError
            If there is no table, or its attributes are not those that dqlearn writes.
        """
        attrs = read_attributes(path)
        where = path if "://" in path else os.path.abspath(path)
        begun = {"path": where, "round": attrs.get("round"), "timesteps": attrs.get("timesteps")}
        return cls.of(attrs | {"origin": json.dumps(begun)}, path)

    @classmethod
    def of(cls, attrs: Mapping[str, Any], path: str) -> Stored:
        """Take attributes apart.

        Raises
        ------
        IncompatibleTableError
            If they are not those that dqlearn writes.
        """
        try:
            kinds = ("observation", "action")
            spaces = {kind: nested(attrs, f"{kind}_space") for kind in kinds}
            seen, _ = (SpaceIndex.from_spec(spaces[kind]) for kind in kinds)
            begun = nested(attrs, "origin")
            origin = begun and Origin(
                str(begun["path"]), int(begun["round"]), int(begun["timesteps"])
            )
            return cls(
                path,
                dict(nested(attrs, "environment")),
                spaces,
                seen.bins,
                from_attributes(attrs),
                origin,
                json.loads(attrs.get("fingerprint", "null")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise IncompatibleTableError(
                f"expected the attributes that dqlearn saved, got others at {path!r}: {error!r}; "
                "were they edited?"
            ) from error


def environment_of(stored: Stored, env: EnvLike | None, bins: BinsLike) -> Resolved:
    """Make the environment of a stored table, and check that the table fits it."""
    kwargs = None
    if env is None:
        env, kwargs = _named(stored), stored.environment.get("kwargs")
    resolved = resolve(env, kwargs, stored.bins if bins is None else bins)
    for name, index in (("observation", resolved.states), ("action", resolved.actions)):
        if index.spec() != stored.spaces[name]:
            raise IncompatibleTableError(
                f"the {name} space of {env!r} must be the one that the table at {stored.path!r} "
                f"was learned with, {stored.spaces[name]}; got {index.spec()}"
            )
    return resolved


def _named(stored: Stored) -> EnvLike:
    """Return the environment that a table names: an id, or a model that stands in a module."""
    spec = stored.environment
    if "id" in spec:
        return str(spec["id"])
    module, _, name = spec.get("import", "").partition(":")
    found = getattr(_imported(module), name, None) if module else None
    if isinstance(found, TabularEnv):
        return found
    raise IncompatibleTableError(
        f"the table at {stored.path!r} is of {spec.get('name')!r}, which has no id and is no "
        f"TabularEnv that can be imported{f' from {module}' if module else ''}: pass env="
    )


def _imported(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def fingerprint_of(resolved: Resolved) -> dict[str, str] | None:
    """Return what tells a model from others; None for environments that have no such thing."""
    env = resolved.env
    if not isinstance(env, TabularEnv):
        return None
    model = {**env.functions, "params": env.params, "limits": env.limits}
    digest = fingerprint(model, versions=False)
    if digest is None:
        return None
    return {"python": ".".join(map(str, sys.version_info[:2])), "model": digest}


def check_fingerprint(stored: Stored, resolved: Resolved) -> None:
    """Refuse a model that is not the one a run was learned with.

    A run can only go on to the same end with the same model. Byte code differs from one version of
    Python to the next; then only the spaces are compared.

    Raises
    ------
    IncompatibleTableError
        If it is another one.
    """
    known, got = stored.fingerprint, fingerprint_of(resolved)
    if known is None or (got is not None and known["python"] != got["python"]):
        return
    if got != known:
        raise IncompatibleTableError(
            f"the run at {stored.path!r} was made with another version of {resolved.name!r}: its "
            "functions, params or limits differ; pass the same one as env=, or begin a new run "
            "from its table with dqlearn.open_table(...).to_zarr and dqlearn.load"
        )
