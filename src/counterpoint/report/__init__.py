"""The report of a run (`page`), what it shows of an encoder (`collect`), and the pages of the documentation (`docs`)."""
