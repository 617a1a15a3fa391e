"""A testbed for language-model collapse: models trained on what earlier models wrote."""

__version__ = "0.1.0"
