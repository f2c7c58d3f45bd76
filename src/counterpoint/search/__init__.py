"""Finding: exact and approximate neighbours, BM25, fusion of both, and an index in a folder."""

from counterpoint.search.bm25 import BM25
from counterpoint.search.exact import top_k
from counterpoint.search.store import Hit, Index

__all__ = ["BM25", "Hit", "Index", "top_k"]
