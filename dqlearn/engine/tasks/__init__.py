"""What the tasks of all graphs run: the stages, with the plan taken apart.

::

    begin ─► learning, or asking and learning ─► ...        a state; a round, and the next
                    └─► looking                             at a state, beside the rounds

Invariant: each is a pure function of its arguments, donated shards and chunks excepted, which check
theirs.
"""
