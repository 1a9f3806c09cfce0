"""Workbooks of Excel: a sheet as a table."""
