"""The functions that the tasks of all graphs run: they pass parts of the plan to the stages.

::

    begin ─► learning, or asking and learning ─► ...        a state; a round, and the next
                    └─► looking                             at a state, beside the rounds

Invariant: each is a pure function of its arguments, donated shards and chunks excepted, which check
theirs.
"""
