"""help() of every public name says what it is, in a sentence, names every argument, and its examples run."""

from __future__ import annotations

import dataclasses
import doctest
import functools
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

import nestlab as nl

CLASSES = [getattr(nl, name) for name in nl.__all__ if inspect.isclass(getattr(nl, name))]


def members(owner: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that nestlab defines, as (name, attribute)."""
    own = [owner, *(base for base in owner.__mro__[1:] if base.__module__.startswith("nestlab."))]
    for name, attribute in {n: a for base in reversed(own) for n, a in vars(base).items()}.items():
        if name.startswith("_"):
            continue
        if isinstance(attribute, classmethod | staticmethod):
            yield name, attribute.__func__
        elif isinstance(attribute, property):
            yield name, attribute.fget
        elif isinstance(attribute, functools.cached_property):
            yield name, attribute.func
        elif inspect.isfunction(attribute):
            yield name, attribute


def public() -> Iterator[tuple[str, Any]]:
    """Every public name of the package, with the methods and properties of classes."""
    yield "nestlab", nl
    yield "nestlab.fit", nl.fit
    for owner in CLASSES:
        yield owner.__name__, owner
        for name, member in members(owner):
            yield f"{owner.__name__}.{name}", member


PUBLIC = dict(public())


def parameters(thing: Any) -> list[str]:
    """Names of the arguments that a caller gives."""
    if inspect.ismodule(thing):
        return [] if thing is nl else list(inspect.signature(thing).parameters)
    if inspect.isclass(thing):
        if dataclasses.is_dataclass(thing):
            return [f.name for f in dataclasses.fields(thing) if not f.name.startswith("_")]
        own = next((vars(base)["__init__"] for base in thing.__mro__[:-1] if "__init__" in vars(base)), None)
        return [] if own is None else parameters(own)
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = inspect.signature(thing).parameters.values()
    return [p.name for p in found if p.name not in ("self", "cls") and p.kind not in kinds]


def unmentioned(thing: Any) -> list[str]:
    doc = thing.__doc__ or ""
    return [name for name in parameters(thing) if not re.search(rf"\b{re.escape(name)}\b", doc)]


def test_all_of_the_interface_is_walked() -> None:
    """No name of __all__ is skipped, and neither are methods, properties, class methods and cached properties."""
    for name in nl.__all__:
        assert name in PUBLIC or f"nestlab.{name}" in PUBLIC
    expected = {
        "Study.run",
        "Study.from_toml",
        "Study.conditions",
        "Results.summary",
        "Fit.test",
        "Fit.is_singular_lme4",
    }
    assert expected <= set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_there_is_a_docstring_of_its_own(name: str) -> None:
    doc = vars(PUBLIC[name]).get("__doc__") if inspect.isclass(PUBLIC[name]) else PUBLIC[name].__doc__
    assert doc
    assert doc.strip()
    assert not re.match(rf"{re.escape(name.rsplit('.', 1)[-1])}\(", doc), "a dataclass wrote it"


@pytest.mark.parametrize("name", PUBLIC)
def test_the_first_line_is_a_sentence(name: str) -> None:
    lines = inspect.cleandoc(PUBLIC[name].__doc__).splitlines()
    assert lines[0].endswith(".")
    assert len(lines) == 1 or lines[1] == "", "the summary goes on in the second line"


@pytest.mark.parametrize("name", PUBLIC)
def test_every_argument_is_mentioned(name: str) -> None:
    assert unmentioned(PUBLIC[name]) == []


def test_what_is_not_mentioned_is_found() -> None:
    def described(level: float, method: str) -> None:
        """Levels of methods; level: in (0, 1)."""

    assert unmentioned(described) == ["method"]


def test_the_call_and_the_function_are_one() -> None:
    """`nestlab.fit` is a module that can be called: its arguments are those of the function, and both say the same of each."""
    function = importlib.import_module("nestlab.fit.single").fit
    assert list(inspect.signature(nl.fit).parameters) == parameters(function)
    assert unmentioned(function) == []
    defaults = {name: p.default for name, p in inspect.signature(function).parameters.items()}
    assert {name: p.default for name, p in inspect.signature(nl.fit).parameters.items()} == defaults


@pytest.mark.parametrize("name", ["Study", "Results", "Fit", "nestlab.fit", "StudyError", "DataError", "FormulaError"])
def test_examples_run(name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    thing = PUBLIC[name]
    if inspect.ismodule(thing):
        found = [doctest.DocTestParser().get_doctest(thing.__doc__, {}, name, None, 0)]
    else:
        module = importlib.import_module(thing.__module__)
        found = doctest.DocTestFinder(exclude_empty=True).find(thing, name, module=module, globs=dict(vars(module)))
    examples = [test for test in found if test.examples]
    assert examples, f"{name} has no example"
    for test in examples:
        runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
        assert runner.run(test).failed == 0
