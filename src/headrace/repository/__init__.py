"""What a folder holds that could be served, one file a layout; find.py chooses. Reads files, opens no model.

Every layout says what it says of a model in one form: sources (source.py) with a ModelConfig each.
"""
