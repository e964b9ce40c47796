"""Environments that run as Python: made, stepped, watched and closed.

::

    factory ─► gymnasium_env ─► guard ─► returned      a VectorEnv per shard, its results checked
                   └─► distinct, faults, marks          shared state, errors, deaths
"""
