"""Environments that run as Python: made, stepped, watched and closed.

::

    factory ─► gymnasium_env ─► guard ─► returned      one VectorEnv a shard, its answers checked
                   └─► distinct, faults, marks          shared state, errors, deaths
"""
