"""Finding what the library has, by importing the modules of a package."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


def subclasses(package: ModuleType, base: type[T]) -> dict[str, type[T]]:
    """Every concrete subclass of `base` defined in a package, by name."""
    found: dict[str, type[T]] = {}
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        for name, value in vars(importlib.import_module(info.name)).items():
            own = isinstance(value, type) and value.__module__ == info.name
            if own and issubclass(value, base) and value is not base and not inspect.isabstract(value):
                found[name] = value
    return found
