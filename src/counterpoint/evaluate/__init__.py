"""Measuring encoders: metrics, intervals, baselines, and `evaluate`, which chooses the task by the data."""

from counterpoint.evaluate.result import Evaluation, Figure
from counterpoint.evaluate.run import evaluate

__all__ = ["Evaluation", "Figure", "evaluate"]
