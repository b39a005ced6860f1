"""A skill in Python that takes texts."""
