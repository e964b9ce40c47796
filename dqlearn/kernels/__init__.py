"""Kernels: loops over arrays, compiled by Numba (:mod:`dqlearn.jit`).

::

    arrays in ──► kernel ──► arrays out

A kernel knows no Dask, no Gymnasium and no class of ours. Invariant: what a kernel returns depends
on its arguments alone.
"""
