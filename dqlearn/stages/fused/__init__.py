"""Fused rounds: many rounds in one task, where one memory holds the run."""
