"""Measuring encoders: metrics, intervals, baselines, and `evaluate`, which chooses the task by the data."""

from counterpoint.evaluate.evaluate import evaluate
from counterpoint.evaluate.result import Evaluation, Figure

__all__ = ["Evaluation", "Figure", "evaluate"]
