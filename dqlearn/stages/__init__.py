"""Stages: one file for each box of the drawing of a round; pure functions over arrays.

::

    policy ─► rollout ─► route ─► update ─► summary ─► policy
                 └─► lookup ─────────────────┘           and evaluation, beside the rounds

`settings` and `plan` hold what a run was told. Invariant: a stage knows nothing of Dask: whatever
runs it, and however often, equal arguments give equal results.
"""
