"""Finished fold runs of one data set: grouped by architecture, checked against each other, compared."""
