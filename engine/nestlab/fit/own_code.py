"""Python functions of study files, "module:function": found, named by a digest of their source, and loaded with consent only.

A study file from elsewhere can name any code, so nothing is imported before the one who runs the study allows it. The digest, the
SHA-256 of the module's own source, is part of the results' identity: edited code never mixes with older results. What the
module itself imports is not part of it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from ..spec.model import Method
from ..spec.problems import StudyError, nearest, show
from ..spec.study import StudyFile
from .attempt import described

__all__ = ["load_function", "make_importable", "source_file", "stored_digests", "with_code"]

#: Modules by file and digest: a source that was edited is another module, whatever this process has imported before.
_LOADED: dict[tuple[str, str], ModuleType] = {}


def with_code(study: StudyFile, folders: Sequence[str] | None) -> StudyFile:
    """The study with the digests of its functions, each of which was imported and found to be callable.

    folders: where modules are looked for before Python's own path; None: no consent. StudyError without consent, and for a
    module or function that is not there.
    """
    own = [method for method in study.methods() if method.function is not None]
    if not own:
        return study
    if folders is None:
        raise StudyError(map(_unallowed, own))
    make_importable(folders)
    digests: dict[str, str] = {}
    for method in own:
        assert method.function is not None
        digests[method.function] = _digest(method, folders)
        load_function(method.name, method.function, digests[method.function])
    return study.with_digests(digests)


def stored_digests(manifest: Mapping[str, Any]) -> dict[str, str]:
    """{"module:function": digest} of the results that a manifest lists; no module is looked for."""
    contents = [entry.get("content", {}) for entry in manifest.get("methods", []) if entry.get("active", True)]
    return {content["function"]: content["source"] for content in contents if content.get("function")}


def make_importable(folders: Sequence[str]) -> None:
    """Put folders before Python's own path, where they stay: functions may import when they are called."""
    sys.path[:] = [*folders, *(folder for folder in sys.path if folder not in folders)]


def load_function(method: str, function: str, digest: str) -> Callable[[Any], object]:
    """The function, of a module whose source has this digest. StudyError where that can't be had; method: for messages."""
    name, _, attribute = function.partition(":")
    key = f"method.{method}.function = {show(function)}"
    spec = _find(name)
    file = "" if spec is None else str(spec.origin)
    if (file, digest) not in _LOADED:
        if spec is None or _sha256(spec) != digest:
            raise StudyError([f"{key}: its module changed while the study ran; run the study again"])
        _LOADED[file, digest] = _imported(spec, digest, key)
    module = _LOADED[file, digest]
    found = getattr(module, attribute, None)
    if callable(found):
        return found  # type: ignore[no-any-return]
    if hasattr(module, attribute):
        raise StudyError(
            [f"{key}: must be a function, and {attribute} is a {type(found).__name__}; name a function of {name}"]
        )
    own = [n for n, value in vars(module).items() if callable(value) and getattr(value, "__module__", "") == name]
    raise StudyError([f"{key}: must be a function of {name}, which has no {attribute}; {nearest(attribute, own)}"])


def source_file(function: str) -> str:
    """The file of a function's module."""
    spec = _find(function.partition(":")[0])
    return "" if spec is None or spec.origin is None else spec.origin


def _unallowed(method: Method) -> str:
    module = (method.function or "").partition(":")[0]
    return (
        f"method.{method.name}.function = {show(method.function)}: runs Python code of the module {module}, which needs your "
        "consent; read that code, then add --allow-code (in Python: allow_code=True)"
    )


def _digest(method: Method, folders: Sequence[str]) -> str:
    name = (method.function or "").partition(":")[0]
    spec = _find(name)
    if spec is None:
        where = " and ".join(folders)
        raise StudyError(
            [
                f"method.{method.name}.function = {show(method.function)}: there is no module {name} in {where} or on Python's "
                f"path; correct the name, or put {name.replace('.', '/')}.py beside the study file"
            ]
        )
    return _sha256(spec)


def _find(name: str) -> ModuleSpec | None:
    """Where a module's source is, without importing it or a package around it; None where there is no file."""
    importlib.invalidate_caches()
    path: Sequence[str] | None = None
    spec: ModuleSpec | None = None
    for position in range(name.count(".") + 1):
        whole = ".".join(name.split(".")[: position + 1])
        finders = (getattr(finder, "find_spec", None) for finder in sys.meta_path)
        spec = next((s for find in finders if find and (s := find(whole, path)) is not None), None)
        if spec is None:
            return None
        path = spec.submodule_search_locations or ()
    return spec if spec is not None and spec.has_location and Path(spec.origin or "").is_file() else None


def _sha256(spec: ModuleSpec) -> str:
    return hashlib.sha256(Path(spec.origin or "").read_bytes()).hexdigest()


def _imported(spec: ModuleSpec, digest: str, key: str) -> ModuleType:
    """The module, made from the very bytes of the digest and not from a cached compilation of them."""
    origin = spec.origin or ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if spec.parent and spec.parent != spec.name:
                importlib.import_module(spec.parent)
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            if origin.endswith(".py"):
                source = Path(origin).read_bytes()
                if hashlib.sha256(source).hexdigest() != digest:
                    raise RuntimeError("the file changed while it was read")
                exec(compile(source, origin, "exec", dont_inherit=True), module.__dict__)
            elif spec.loader is not None:
                spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001
        sys.modules.pop(spec.name, None)
        text = f"{key}: importing {spec.name} raised {described(error, origin)}; correct it"
        raise StudyError([text]) from None
    return module
