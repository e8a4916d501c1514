"""Packages whose names are loaded when they are first used, so that importing the package costs nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def on_demand(package: str, *modules: str) -> Callable[[str], Any]:
    """The `__getattr__` of a package: finds a name of its `__all__` in the first module that has it.

    `modules` are looked through in this order, named from the package on; without them, all that lie in it.
    """

    def find(name: str) -> Any:
        from pkgutil import iter_modules

        here = sys.modules[package]
        if name in here.__all__:
            for module in modules or [entry.name for entry in iter_modules(here.__path__)]:
                home = import_module(f"{package}.{module}")
                if hasattr(home, name):
                    return getattr(home, name)
        raise AttributeError(f"module '{package}' has no attribute '{name}'")

    return find
