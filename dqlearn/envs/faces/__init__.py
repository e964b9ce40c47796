"""Compiled models as Gymnasium sees them: `Env` and `VectorEnv`."""
