"""Compiled models as Gymnasium environments: `Env` and `VectorEnv`."""
