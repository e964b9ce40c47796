"""Windows: transitions that are learned with those that follow them.

::

    links    which transition follows which, and whose window is whole
    returns  what is learned of it

Invariant: arrays in, arrays out, as in :mod:`dqlearn.kernels`.
"""
