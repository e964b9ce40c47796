"""The description of a run in a stored table, and the environment to go on with.

::

    {"id": "Taxi-v4"}             made by its id, with arguments that are stored, or given again
    {"id": .., "compiled": true}  made by its id, and compiled from its table
    {"id": "module:Name-v0"}      made by its id, if the module is imported already, or is trusted
    {"import": "module:name"}     a TabularEnv in such a module
    {"name": "<lambda>"}          the user's own environment, given again as env=

Invariant: what is read is data. A module is imported because a table names it only if the reader
trusts the module, or it is one of dqlearn's own.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from types import ModuleType
from typing import Any

from dqlearn.algorithms import Algorithm, as_algorithm
from dqlearn.algorithms.registry import is_ours
from dqlearn.envs.arguments import restored
from dqlearn.envs.resolve import EnvLike, Resolved, resolve
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import IncompatibleTableError
from dqlearn.jit.fingerprint import fingerprint
from dqlearn.spaces import BinsLike, SpaceIndex
from dqlearn.stages.settings import Settings, checked, from_attributes, whole_number
from dqlearn.storage.attributes import nested, understood
from dqlearn.storage.origin import Origin, read_attributes
from dqlearn.storage.paths import PathLike, is_url, located
from dqlearn.table.snapshot import Snapshot
from dqlearn.text import shortened

__all__ = [
    "Stored",
    "Trust",
    "check_fingerprint",
    "environment_of",
    "fingerprint_of",
    "origin_of",
]

Trust = str | Iterable[str]
"""Names of modules that may be imported because a stored table names them, or one inside them."""

_SPACES = ("observation", "action")
_FORM = "2"  # version of the fingerprints' form
_OURS = "dqlearn.envs"
_SHIM = re.compile(r"(?:.*[:/])?GymV2[16]Environment(?:-v\d+)?", re.DOTALL)


@dataclass(frozen=True)
class Stored:
    """The contents of a stored table's attributes."""

    path: str
    environment: dict[str, Any]
    spaces: dict[str, dict[str, Any]]
    bins: BinsLike
    settings: Settings
    origin: Origin | None
    fingerprint: dict[str, str] | None = None

    @classmethod
    def at(cls, path: PathLike, given: Mapping[str, Any] | None = None) -> Stored:
        """Read the attributes of a saved table; given hyperparameters replace the stored ones.

        Raises
        ------
        IncompatibleTableError
            If there is no table, or its attributes are not written as dqlearn writes them.
        ConfigurationError
            If a given value is not one that its hyperparameter can have.
        """
        attrs, where = read_attributes(path), located(path)
        where = where if is_url(where) else os.path.abspath(where)
        begun = {"path": where, "round": attrs.get("round"), "timesteps": attrs.get("timesteps")}
        stored = cls.of(attrs | {"origin": json.dumps(begun)}, os.fspath(path), given)
        _check_members(stored)
        return stored

    @classmethod
    def of(
        cls, attrs: Mapping[str, Any], path: str, given: Mapping[str, Any] | None = None
    ) -> Stored:
        """Parse attributes; given hyperparameters replace the stored ones.

        Raises
        ------
        IncompatibleTableError
            If they are not written as dqlearn writes them.
        ConfigurationError
            If a given value is not one that its hyperparameter can have.
        """
        changes = checked(given or {})
        with understood(path):
            spaces = {kind: dict(nested(attrs, f"{kind}_space")) for kind in _SPACES}
            seen, _ = map(SpaceIndex.from_spec, spaces.values())
            return cls(
                path,
                _environment(nested(attrs, "environment")),
                spaces,
                seen.bins,
                from_attributes(attrs, changes),
                _origin(nested(attrs, "origin")),
                _fingerprint(json.loads(attrs.get("fingerprint", "null"))),
            )


def _check_members(stored: Stored) -> None:
    """Refuse a rule whose number of members is not the table's."""
    rule = as_algorithm(stored.settings.values["algorithm"])
    if stored.origin is None:
        return
    _, *inner, _ = stored.origin.array("q").shape
    if (found := inner[0] if inner else 1) != rule.members:
        raise IncompatibleTableError(
            f"expected a table of {rule.members} members at {stored.path!r}, as {rule.name!r} has, "
            f"got one of {found}: pass the algorithm= that it was learned by"
        )


def _environment(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Check that an environment is described as dqlearn describes it."""
    texts = [spec[name] for name in ("id", "name", "import") if name in spec]
    parts = [spec.get(name, {}) for name in ("kwargs", "encoded", "unstored")]
    known = [(it["type"], it["python"]) for it in parts[-1].values()]
    if not texts or not all(isinstance(text, str) for text in [*texts, *chain(*known)]):
        raise TypeError("expected an id or a name")
    if not all(isinstance(part, dict) for part in parts):
        raise TypeError("expected arguments by their names")
    if not isinstance(spec.get("compiled", False), bool):
        raise TypeError("expected that it is compiled, or not")
    return dict(spec)


def _origin(begun: Any) -> Origin | None:
    if begun is None:
        return None
    counters = [whole_number(begun[name]) for name in ("round", "timesteps")]
    return Origin(str(begun["path"]), *counters)


def origin_of(snapshot: Snapshot | None) -> dict[str, Any] | None:
    """Return the attribute ``origin``, which describes the table that a run begins with."""
    if snapshot is None:
        return None
    return {
        "path": snapshot.name,
        "round": snapshot.round,
        "timesteps": snapshot.timesteps,
    }


def _fingerprint(known: Any) -> dict[str, str] | None:
    if known is None:
        return None
    return {name: str(known[name]) for name in ("python", "model", "form", "rule") if name in known}


def environment_of(
    stored: Stored,
    env: EnvLike | None = None,
    bins: BinsLike = None,
    env_kwargs: Mapping[str, Any] | None = None,
    trust: Trust = (),
) -> Resolved:
    """Make the environment of a stored table, and check that the table fits it.

    Parameters
    ----------
    stored : Stored
        The description in the table.
    env : str, TabularEnv or callable, optional
        The environment; by default the one that the table names.
    bins : Bins, int, tuple, mapping or sequence, optional
        The environment's bins; by default those of the table.
    env_kwargs : mapping, optional
        Arguments of the environment that could not be stored, or the stored ones again.
    trust : str or iterable of str
        Modules that may be imported because the table names them.

    Returns
    -------
    Resolved

    Raises
    ------
    IncompatibleTableError
        If the environment is missing, or another one, or needs a module that is not trusted.
    """
    if env is None:
        env = _named(stored, trust)
    if isinstance(env, str) and env == stored.environment.get("id"):
        env_kwargs = restored(stored.environment, env_kwargs, stored.path)
    compiled, masks = (
        stored.environment.get("compiled", False),
        stored.settings.masks,
    )
    resolved = resolve(env, env_kwargs, stored.bins if bins is None else bins, compiled, masks)
    for name, index in (("observation", resolved.states), ("action", resolved.actions)):
        if index.spec() != stored.spaces[name]:
            raise IncompatibleTableError(
                f"the {name} space of {env!r} must be the one that the table at {stored.path!r} "
                f"was learned with, {shortened(stored.spaces[name])}; got {shortened(index.spec())}"
            )
    return resolved


def _named(stored: Stored, trust: Trust) -> EnvLike:
    """Return the environment that a table names: an id, or a model in a module."""
    spec = stored.environment
    if (name := spec.get("id")) is not None:
        module, colon, _ = name.rpartition(":")
        if colon:
            _module(module, trust, stored.path)
        if _SHIM.fullmatch(name):
            raise IncompatibleTableError(
                f"{name!r}, which {stored.path!r} names, imports what its arguments say: pass env="
            )
        return str(name)
    module, colon, name = spec.get("import", "").partition(":")
    # Not `getattr`: a module may run code of its own for it.
    found = vars(_module(module, trust, stored.path)).get(name) if colon else None
    if isinstance(found, TabularEnv):
        return found
    raise IncompatibleTableError(
        f"the table at {stored.path!r} is of {shortened(spec['name'])}, which has no id and is no "
        f"TabularEnv that can be imported{f' from {module}' if colon else ''}: pass env="
    )


def _module(name: str, trust: Trust, where: str) -> ModuleType:
    """Return a module that a table names, if it is imported already, is ours, or is trusted."""
    if isinstance(found := sys.modules.get(name), ModuleType):
        return found
    trusted = (trust,) if isinstance(trust, str) else tuple(trust)
    if not any(f"{name}.".startswith(f"{package}.") for package in (_OURS, *trusted)):
        raise IncompatibleTableError(
            f"the environment of {where!r} is in the module {shortened(name)}, which would be "
            f"imported, and so run: import it before if you trust it, pass trust=[{name!r}] "
            "(--trust on the command line), or pass env="
        )
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise IncompatibleTableError(
            f"the environment of {where!r} is in the module {name!r}, which cannot be imported "
            f"here: {error}; pass env="
        ) from error


def fingerprint_of(resolved: Resolved, rule: Algorithm) -> dict[str, str] | None:
    """Return the fingerprint of a model, and of a user's rule; None if there is neither."""
    parts: dict[str, Mapping[str, Any]] = {}
    if isinstance(env := resolved.env, TabularEnv):
        parts["model"] = {**env.functions, "params": env.params, "limits": env.limits}
    if not is_ours(rule):
        parts["rule"] = rule.functions
    digests = {name: fingerprint(part, versions=False) for name, part in parts.items()}
    known = {name: digest for name, digest in digests.items() if digest is not None}
    if not known:
        return None
    return {"python": ".".join(map(str, sys.version_info[:2])), "form": _FORM, **known}


def check_fingerprint(stored: Stored, resolved: Resolved) -> None:
    """Refuse a model, or a rule, that is not the one a run was learned with.

    A run goes on to the same end only with the same model and rule. Byte code differs from one
    version of Python to the next; then only the spaces are compared. So it is with fingerprints of
    another form, such as the first, which included docstrings.

    Raises
    ------
    IncompatibleTableError
        If the model, or the rule, is another one.
    """
    rule = as_algorithm(stored.settings.values["algorithm"])
    known, got = stored.fingerprint, fingerprint_of(resolved, rule)
    if known is None or got is None or known.get("form") != _FORM:
        return
    if known["python"] != got["python"]:
        return
    if got.get("model") != known.get("model"):
        raise IncompatibleTableError(
            f"the run at {stored.path!r} was made with another version of {resolved.name!r}: its "
            "functions, params or limits differ; pass the same one as env=, or begin a new run "
            "from its table with dqlearn.open_table(...).to_zarr and dqlearn.load"
        )
    if got.get("rule") != known.get("rule"):
        raise IncompatibleTableError(
            f"the run at {stored.path!r} was made with another version of the algorithm "
            f"{rule.name!r}: its functions differ; bring the same ones, or begin a new run from "
            "its table with dqlearn.open_table(...).to_zarr and dqlearn.load"
        )
