"""Documentation pages that derive from the code; `make docs` writes them."""
