from django_rewind import __version__ as release

project = "django-rewind"
copyright = "2026, the django-rewind contributors"  # noqa: A001
extensions = ["myst_parser"]
html_theme = "furo"
html_title = f"django-rewind {release}"
myst_heading_anchors = 3
exclude_patterns = ["_build"]
