"""A person fills in the table of cases: state, journal, page, suggestions."""
