"""The table before anything is learned: the first values of pairs, and those that are not valid."""
