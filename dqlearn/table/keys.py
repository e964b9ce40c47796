"""Dask's task specification, which is private to Dask, in one place.

A release of Dask that moves it changes this file alone.
"""

from dask._task_spec import DataNode, GraphNode, List, Task, TaskRef

__all__ = ["DataNode", "GraphNode", "List", "Task", "TaskRef"]
