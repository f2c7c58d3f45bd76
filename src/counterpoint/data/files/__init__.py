"""Files of rows: formats, stores, shards, tables, and how each is read."""
