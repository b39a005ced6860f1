"""A skill in Python that takes records."""
