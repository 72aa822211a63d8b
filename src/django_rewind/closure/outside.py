"""What may be gone on another branch: all but Django and the standard library."""

from __future__ import annotations

import pkgutil
import re
import sys
import sysconfig
from functools import cache
from pathlib import Path, PurePath

from django import contrib
from django.apps import apps

# Always there, or a dependency of whatever is stored: never stored itself.
PRESENT = frozenset({"django", "django_rewind"})
OWN_APP = re.compile(r"django\.contrib\.(\w+)")
# Where pip and Debian put packages.
SITES = frozenset({"site-packages", "dist-packages"})


def is_outside(module: str) -> bool:
    """Whether it is neither Django, nor this package, nor the standard library."""
    top = module.partition(".")[0]
    if top == "django":
        return is_uninstalled(module)
    return bool(top) and top not in PRESENT and not _is_standard(top)


def is_uninstalled(module: str) -> bool:
    """Whether it is of one of Django's own apps whose models cannot be imported here.

    They raise RuntimeError where their app is not in INSTALLED_APPS.
    """
    app = OWN_APP.match(module)
    return app is not None and _has_models(app[1]) and not apps.is_installed(app[0])


@cache
def _has_models(app: str) -> bool:
    return Path(contrib.__path__[0], app, "models.py").exists()


def is_installed(top: str) -> bool:
    """Whether a top-level package that is imported was installed from elsewhere."""
    module = sys.modules.get(top)
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return any(SITES & {*PurePath(place).parts} for place in places if place)


def _is_standard(top: str) -> bool:
    if top not in _standard_library():
        return False
    # A project's own package may be named like one: its folder comes first.
    file = getattr(sys.modules.get(top), "__file__", None)
    return not file or _is_of_python(file)


@cache
def _is_of_python(file: str) -> bool:
    paths = sysconfig.get_paths()
    inside = (paths["stdlib"], paths["platstdlib"])
    return file.startswith(inside) and "site-packages" not in file


@cache
def _standard_library() -> frozenset[str]:
    if sys.version_info >= (3, 10):
        return sys.stdlib_module_names
    folder = sysconfig.get_path("stdlib")
    listed = pkgutil.iter_modules([folder, f"{folder}/lib-dynload"])
    return frozenset({*sys.builtin_module_names, *(name for _, name, _ in listed)})
