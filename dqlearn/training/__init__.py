"""Training: the loop of rounds, checkpoints, callbacks, progress and interrupts.

::

    loop ─► pipeline ─► rounds on the engine ─► reports ─► history, callbacks, progress
               └─► cuts: what is kept to go back to     recorder: what is written

Invariant: a run that is interrupted, or loses workers, goes on to the bits of an undisturbed one.
"""
