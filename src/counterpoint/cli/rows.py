"""The rows a verb works on, and which of their columns."""

from counterpoint.workflow.rows import find_column, read_all

__all__ = ["find_column", "read_all"]
