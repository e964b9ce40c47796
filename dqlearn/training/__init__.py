"""Training: the loop of rounds, checkpoints, callbacks, progress and interrupts.

::

    loop ─┬─► pipeline ─► rounds on the engine ─► reports ─► history, callbacks, progress
          │      ├─► recovery ─► recovery points: what the run can go back to
          │      ├─► ownership: who holds the state ─► placement: where it is
          │      └─► capacity: other chunks, if their loads are uneven
          └─► checkpointer: writes checkpoints, and hands them over as recovery points

Invariant: a run that is interrupted, or loses workers, ends with the bits of an undisturbed run.
"""
