"""Compiling functions and templates to machine code that is kept on disk and is never stale.

::

    template + functions of a model ─► specialise ─┐
    function ──────────────────────────────────────┴─► compiled.njit ─► fingerprint ─► code_folder
"""
