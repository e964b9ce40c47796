"""Kernel templates: sources whose free names become a user's functions, or a rule's.

Invariant: a template is compiled by :mod:`dqlearn.jit.specialise` alone, and imported by nobody.
"""
