"""What a folder holds that could be served, one file a layout; find.py walks and chooses. Opens no model.

Every layout says what it says of a model in one form: sources (source.py) with a ModelConfig each. plain.py has files and
version folders; listed.py and settings_files.py are what readers of other servers' settings share.
"""
