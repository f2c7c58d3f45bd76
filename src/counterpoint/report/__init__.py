"""The report of a run (`page`), what it shows of an encoder (`collect`), and generated pages of the docs (`docs`)."""
