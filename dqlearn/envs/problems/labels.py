"""Labels: where to write beside what is drawn, so that nothing is written over anything.

::

    candidates of every label ──► the cheapest, given where the others are ──► until none moves
                                  cost: area over labels, nodes and the frame ≫ lines crossed

Invariant: places follow from the sizes alone, so the same picture is always drawn alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["around", "beside", "place"]

Floats = npt.NDArray[np.float64]

_PASSES = 8
_OVER = 1000.0  # per square point of another label, of a node, or outside the frame
_GAP = 3.0  # points that are left free around a label
_NEAR = 6.0  # points from another line at which a label could be taken for that line's


_SIDES = [(0, -1), (1, 0), (0, 1), (-1, 0)]
_ASIDE = [(0.5, -1), (-0.5, -1), (0.5, 1), (-0.5, 1), (1, -0.5), (1, 0.5), (-1, -0.5), (-1, 0.5)]
_CORNERS = [(1, -1), (-1, -1), (1, 1), (-1, 1)]
_WAYS = np.array([*_SIDES, *_ASIDE, *_CORNERS])  # to the middles of labels, in half sizes


def around(at: Floats, size: Floats, radius: float) -> Floats:
    """Return places for a label around a point.

    Parameters
    ----------
    at : float64 (2,)
        The point.
    size : float64 (2,)
        Width and height of the label.
    radius : float
        Half of what is drawn at the point.

    Returns
    -------
    float64 (n, 4)
        Left, bottom, right and top, the best place first.
    """
    return _boxes(at + _WAYS * (size / 2 + radius + _GAP), size)


def beside(line: Floats, size: Floats, width: float) -> Floats:
    """Return places for a label on either side of a line.

    Parameters
    ----------
    line : float64 (n, 2)
        Points of the line, evenly spaced.
    size : float64 (2,)
        Width and height of the label.
    width : float
        The width of the line.

    Returns
    -------
    float64 (m, 4)
        Left, bottom, right and top, the best place first.
    """
    centres = []
    for share in (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8):
        k = round(share * (len(line) - 1))
        along = line[min(k + 1, len(line) - 1)] - line[max(k - 1, 0)]
        across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-9)
        off = across * ((np.abs(across) @ size + width) / 2 + _GAP)
        centres += [line[k] + off, line[k] - off]
    return _boxes(np.array(centres), size)


def place(
    candidates: Sequence[Floats], lines: Sequence[Floats], drawn: Floats, frame: Floats
) -> Floats:
    """Choose a place for every label.

    Parameters
    ----------
    candidates : sequence of float64 (k, 4)
        Boxes for each label, the best first: left, bottom, right and top.
    lines : sequence of float64 (p, 2)
        For each label, points of lines that it had better not be near.
    drawn : float64 (m, 4)
        Boxes that must stay free.
    frame : float64 (4,)
        Box that all must stay in.

    Returns
    -------
    float64 (len(candidates), 4)
        A box a label.
    """
    fixed = [
        _fixed_cost(boxes, points, drawn, frame)
        for boxes, points in zip(candidates, lines, strict=True)
    ]
    chosen: list[Floats] = []  # none in the way of the first pass's labels but those before them
    for _ in range(_PASSES):
        before = list(chosen)
        for i, boxes in enumerate(candidates):
            others = np.array(chosen[:i] + chosen[i + 1 :]).reshape(-1, 4)
            cost = fixed[i] + _OVER * _overlaps(boxes, others)
            chosen[i : i + 1] = [boxes[int(cost.argmin())]]
        if len(before) == len(chosen) and np.array_equal(before, chosen):
            break
    return np.array(chosen).reshape(-1, 4)


def _fixed_cost(boxes: Floats, points: Floats, drawn: Floats, frame: Floats) -> Floats:
    """Return what places cost whatever the other labels do."""
    near = [
        ((points > boxes[:, None, :2] - gap) & (points < boxes[:, None, 2:] + gap)).all(axis=2)
        for gap in (0.0, _NEAR)
    ]
    crossed = sum(inside.sum(axis=1) for inside in near)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    outside = area - _overlaps(boxes, frame[None], gap=0.0)
    hard = _OVER * (_overlaps(boxes, drawn) + outside)
    cost: Floats = hard + crossed + 0.1 * np.arange(len(boxes))
    return cost


def _overlaps(boxes: Floats, others: Floats, gap: float = _GAP) -> Floats:
    """Return the area that each box has in common with others, together."""
    low = np.maximum(boxes[:, None, :2] - gap, others[:, :2])
    high = np.minimum(boxes[:, None, 2:] + gap, others[:, 2:])
    area: Floats = np.prod(np.maximum(high - low, 0.0), axis=2).sum(axis=1)
    return area


def _boxes(centres: Floats, size: Floats) -> Floats:
    return np.hstack([centres - size / 2, centres + size / 2])
