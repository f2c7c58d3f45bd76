"""Graphs, tables, sequences: methods for data whose structure is given."""
