"""Building the code of a space, from the space or from its spec.

::

    space + bins ──code_of──► code ──code.spec()──► JSON ──space_of──► the same space + bins

The bins have the structure of the space: a mapping for a `Dict`, a sequence for a `Tuple`.
Invariant: a space that cannot be indexed is refused here, before anything is learned with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from gymnasium import Space, spaces

from dqlearn.errors import SpaceError
from dqlearn.spaces._array_codes import BoxCode, MultiDiscreteCode
from dqlearn.spaces._codes import Code, DiscreteCode, ProductCode
from dqlearn.spaces._places import Place, refusal
from dqlearn.spaces.bins import Bins

__all__ = ["BinsLike", "code_of", "space_of"]

BinsLike: TypeAlias = "Bins | int | Sequence[BinsLike] | Mapping[str, BinsLike] | None"


def code_of(space: Space[Any], bins: BinsLike, place: Place) -> Code:
    """Return the code of a space.

    Parameters
    ----------
    space : gymnasium.Space
        The space.
    bins : Bins, int, sequence, mapping or None
        The bins of the boxes in the space.
    place : Place
        Where the space sits.

    Returns
    -------
    Code
        The code of the space, which holds the codes of its parts.

    Raises
    ------
    SpaceError
        If the space or a part of it has no finite index, or the bins do not fit it.

    Examples
    --------
    >>> code_of(spaces.Tuple((spaces.Discrete(3), spaces.Box(0, 1))), (None, 5), Place("x")).n
    15
    """
    match space:
        case spaces.Discrete():
            _no_bins(space, bins, place)
            return DiscreteCode(space, place)
        case spaces.MultiDiscrete() | spaces.MultiBinary():
            _no_bins(space, bins, place)
            return MultiDiscreteCode(space, place)
        case spaces.Box():
            return BoxCode(space, place, _box_bins(space, bins, place))
        case spaces.Tuple() | spaces.Dict():
            return _product(space, bins, place)
    raise refusal(
        place,
        space,
        "has no finite index: expected Discrete, MultiDiscrete, MultiBinary, Box with bins, or a "
        "Tuple or Dict of these; map it to one with gymnasium.wrappers.TransformObservation or "
        "TransformAction",
    )


def _product(space: spaces.Tuple[Any] | spaces.Dict, bins: BinsLike, place: Place) -> ProductCode:
    if isinstance(space, spaces.Dict):
        members: dict[Any, Space[Any]] = dict(space.spaces)
        given = _named_bins(space, bins, place)
    else:
        members = dict(enumerate(space.spaces))
        given = _listed_bins(space, bins, place)
    codes = {key: code_of(sub, given.get(key), place.child(key)) for key, sub in members.items()}
    return ProductCode(space, place, codes)


def _no_bins(space: Space[Any], bins: BinsLike, place: Place) -> None:
    if bins is not None:
        raise refusal(place, space, f"takes no bins, only a Box does: leave out {bins=}")


def _named_bins(space: spaces.Dict, bins: BinsLike, place: Place) -> Mapping[Any, BinsLike]:
    keys: list[Any] = list(space.spaces)
    nameless = [key for key in keys if not isinstance(key, str)]
    if nameless:
        raise refusal(place, space, f"must have strings as keys, got {nameless}: rename them")
    if bins is None:
        return {}
    if not isinstance(bins, Mapping) or not set(bins) <= set(keys):
        raise refusal(place, space, f"takes bins as a mapping with keys of {keys}, got {bins=}")
    return bins


def _listed_bins(space: spaces.Tuple[Any], bins: BinsLike, place: Place) -> Mapping[Any, BinsLike]:
    if bins is None:
        return {}
    if not isinstance(bins, Sequence) or len(bins) > len(space.spaces):
        raise refusal(
            place, space, f"takes bins as a sequence of at most {len(space.spaces)}, got {bins=}"
        )
    return dict(enumerate(bins))


def _box_bins(space: spaces.Box[Any], bins: BinsLike, place: Place) -> Bins:
    """Return bins with one array of edges for each flattened dimension of the box."""
    if bins is None:
        raise refusal(
            place,
            space,
            "is continuous: give it bins at this place, a number per dimension (an int or a tuple "
            "of ints) or dqlearn.spaces.Bins",
        )
    if not isinstance(bins, Bins):
        bins = _counted(space, bins, place)
    dimensions = space.low.size
    if len(bins.edges) == 1:
        return Bins(tuple(bins.edges) * dimensions)
    if len(bins.edges) != dimensions:
        raise refusal(
            place, space, f"has {dimensions=}, got edges for {len(bins.edges)}: give one array each"
        )
    return bins


def _counted(space: spaces.Box[Any], counts: Any, place: Place) -> Bins:
    """Return equal bins over the box's bounds, which must be finite where it is cut into bins."""
    bounded = (space.bounded_below & space.bounded_above).ravel()
    try:
        endless = np.flatnonzero(~bounded & (np.ravel(counts) != 1)).tolist()
        if endless:
            raise SpaceError(f"flattened dimensions {endless} have no finite bounds to divide")
        return Bins.uniform(space.low.ravel(), space.high.ravel(), counts)
    except (SpaceError, ValueError) as error:
        raise refusal(
            place,
            space,
            f"cannot be cut into bins={counts!r}: {error}; give a count per dimension, 1 to ignore "
            "one, or dqlearn.spaces.Bins.uniform(low, high, n) with the interval that matters",
        ) from error


def space_of(spec: Mapping[str, Any]) -> tuple[Space[Any], BinsLike]:
    """Return the space and the bins that a code's spec describes: the inverse of ``code.spec()``.

    Parameters
    ----------
    spec : mapping
        The key "kind" and the keys that this kind needs; plain data.

    Returns
    -------
    space : gymnasium.Space
        The space itself.
    bins : Bins, list, dict or None
        The bins of the boxes in the space.

    Raises
    ------
    SpaceError
        If the kind is unknown.
    KeyError, TypeError, ValueError
        If the spec is malformed.

    Examples
    --------
    >>> space_of({"kind": "Discrete", "n": 3, "start": 1, "dtype": "int64"})
    (Discrete(3, start=1), None)
    """
    match spec["kind"]:
        case "Discrete":
            return spaces.Discrete(spec["n"], start=spec["start"], dtype=spec["dtype"]), None
        case "MultiDiscrete":
            dtype, shape = _dtype_of(spec), spec["shape"]
            sizes, starts = (np.array(spec[k], dtype).reshape(shape) for k in ("nvec", "start"))
            return spaces.MultiDiscrete(sizes, dtype=dtype, start=starts), None
        case "MultiBinary":
            return spaces.MultiBinary(spec["shape"]), None
        case "Box":
            return _box_of(spec), Bins(spec["edges"])
        case "Tuple" | "Dict":
            return _product_of(spec)
    raise SpaceError(f"expected the kind of a space, got {spec['kind']!r}: unknown to this version")


def _dtype_of(spec: Mapping[str, Any]) -> np.dtype[Any]:
    """Return the dtype of a spec, which must be numeric: an item of another may take gigabytes."""
    dtype: np.dtype[Any] = np.dtype(spec["dtype"])
    if dtype.kind not in "biuf":
        raise SpaceError(f"expected the dtype of numbers, got {spec['dtype']!r}")
    return dtype


def _box_of(spec: Mapping[str, Any]) -> spaces.Box[Any]:
    dtype = _dtype_of(spec)
    low = [-np.inf if bound is None else bound for bound in spec["low"]]
    high = [np.inf if bound is None else bound for bound in spec["high"]]
    low_array, high_array = (np.array(b, dtype).reshape(spec["shape"]) for b in (low, high))
    return spaces.Box(low_array, high_array, dtype=dtype.type)


def _product_of(spec: Mapping[str, Any]) -> tuple[Space[Any], BinsLike]:
    pairs = [space_of(member) for member in spec["spaces"]]
    members, bins = [space for space, _ in pairs], [given for _, given in pairs]
    if spec["kind"] == "Tuple":
        return spaces.Tuple(members), bins
    keys = spec["keys"]
    named = dict(zip(keys, members, strict=True))
    return spaces.Dict(named, sort_keys=False), dict(zip(keys, bins, strict=True))
