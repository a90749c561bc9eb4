"""Twenty-four research papers about weights, each derived, implemented, checked and measured."""

__version__ = "0.1.0"

import sys as _sys
from importlib.machinery import PathFinder as _PathFinder
from importlib.machinery import SourceFileLoader as _SourceFileLoader


class _Loader(_SourceFileLoader):
    "Renders the comments beside parameters into `__doc__` once a module is there"

    def exec_module(self, module):
        super().exec_module(module)
        if _sys.flags.optimize < 2 and hasattr(module, "__all__"):
            from weightbook.book.docments import document

            document(module)


class _Finder:
    "Finds the modules of this package, and nothing else"

    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = _PathFinder.find_spec(name, path, target) if name.startswith("weightbook.") else None
        if spec is not None and type(spec.loader) is _SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


if not any(getattr(finder, "__name__", "") == "_Finder" for finder in _sys.meta_path):
    _sys.meta_path.insert(0, _Finder)
