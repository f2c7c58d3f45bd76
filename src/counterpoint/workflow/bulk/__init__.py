"""Bulk encoding: files in, files out."""
