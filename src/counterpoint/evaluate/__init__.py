"""Measuring encoders: metrics, intervals, baselines, and `evaluate`, which chooses the task by the data.

As a function, ``counterpoint.evaluate(model, data)`` measures a model folder, as `counterpoint.workflow.evaluate` says.
"""

import counterpoint
from counterpoint.evaluate.evaluate import evaluate
from counterpoint.evaluate.result import Evaluation, Figure

__all__ = ["Evaluation", "Figure", "evaluate"]

counterpoint.call_as_verb(__name__)
