"""The report of a run (`page`) and what it shows of an encoder (`collect`).

As a function, ``counterpoint.report(run)`` writes the page of a run again: `counterpoint.report.page.write`.
"""

import counterpoint

counterpoint.call_as_verb(__name__)
