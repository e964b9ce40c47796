"""The problems that come with dqlearn: families of networks, a torus, random models.

::

    Family ─► TabularEnv       topology, digits: what models are made of
       └─► Picture             drawing, labels: how a state is shown
"""
