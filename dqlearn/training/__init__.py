"""Training: the loop of rounds, checkpoints, callbacks, progress and interrupts.

::

    loop ─┬─► pipeline ─► rounds on the engine ─► reports ─► history, callbacks, progress
          │      ├─► recovery ─► recovery points: what the run can go back to
          │      ├─► ownership: who holds the state ─► placement: where it is
          │      └─► capacity: the chunks cut anew by their loads
          └─► checkpointer: what is written, and handed over as a recovery point

Invariant: a run that is interrupted, or loses workers, goes on to the bits of an undisturbed one.
"""
