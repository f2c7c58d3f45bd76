"""The command line in this process."""

from tests.workflow.conftest import run

__all__ = ["run"]
