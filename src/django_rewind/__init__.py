"""Roll back Django migrations whose files are gone."""

__version__ = "1.0.0"
