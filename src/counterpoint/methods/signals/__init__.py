"""Sound, time series: methods for values measured over time."""
