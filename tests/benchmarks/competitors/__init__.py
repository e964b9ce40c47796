"""Q-learning as users of other technologies would write it: one technology a file.

Each module has one class, ``Learner(problem, seed)``, with two methods: ``advance(transitions)``
learns from so many more and returns how many it made, ``value()`` returns the largest Q-value of
each state. :mod:`competitors.catalogue` lists them; :mod:`competitors.process` runs each in a
process of its own.
"""
