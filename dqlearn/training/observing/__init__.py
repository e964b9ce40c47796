"""Learning of observed transitions: the journal of a run, and who writes to it."""
