"""Loops that merge the tables of federated members: how much each counts, and what that makes."""
