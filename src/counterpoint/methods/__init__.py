"""The methods, one file each.

As a function, ``counterpoint.methods()`` lists their pages, ``counterpoint.methods(name)`` gives one:
`counterpoint.methods.catalogue.methods`.
"""

import counterpoint

counterpoint.call_as_verb(__name__)
