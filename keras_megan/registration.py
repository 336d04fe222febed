"""Keras knows our layers from the moment it is loaded.

Loading Keras and its backend takes seconds, and `megan --help`, `megan info clip.mp4`
or a job that runs on LiteRT need neither. So `import keras_megan` does not load them.
What has to hold is this: whoever has imported keras_megan can load a saved model that
uses its layers, in whichever order the imports stand. Nobody can load a model without
importing Keras, so the layers are registered as the last step of importing Keras; at
once if it is loaded already.

That step is added by a finder on `sys.meta_path`. It finds nothing itself: it asks the
other finders for `keras`, lets that be loaded as always, and registers. Modules of ours
that need Keras wait for it too, so that none is half-way through its own import then.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

from keras_megan.quiet import starting_up

#: Modules whose import registers something with Keras.
REGISTERING = tuple(
    f"keras_megan.{name}"
    for name in ("layers", "losses", "metrics", "megan", "net2net", "classifiers")
)


def register_with_keras() -> None:
    """Registers all layers, losses, metrics and models, now or when Keras is loaded."""
    if "keras" in sys.modules:
        _register()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _register() -> None:
    for name in REGISTERING:
        importlib.import_module(name)


class _Finder(importlib.abc.MetaPathFinder):
    """Waits for the import of Keras, or of a module that needs it."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname in REGISTERING and "keras" not in sys.modules:
            importlib.import_module("keras")
            found = _Loaded(sys.modules[fullname])
            return importlib.machinery.ModuleSpec(fullname, found)
        if fullname != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("keras")
        if spec is None or spec.loader is None:
            sys.meta_path.insert(0, self)
            return None
        spec.loader = _ThenRegister(spec.loader, self)
        return spec


class _ThenRegister(importlib.abc.Loader):
    """Loads Keras with its own loader, then registers."""

    def __init__(self, loader: importlib.abc.Loader, finder: _Finder):
        self._loader, self._finder = loader, finder

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Nothing of this file stays visible on Keras.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        try:
            with starting_up():
                self._loader.exec_module(module)
        except BaseException:
            sys.meta_path.insert(0, self._finder)  # another attempt may succeed
            raise
        _register()


class _Loaded(importlib.abc.Loader):
    """Gives a module that was loaded, by registering, while it was looked for."""

    def __init__(self, module: ModuleType):
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec
