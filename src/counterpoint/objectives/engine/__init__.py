"""The parts of the engine behind `contrast`: checks, reductions, forms, distribution."""
