"""Property tests draw the same examples every time: a failure is the change's, not chance's."""

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")
