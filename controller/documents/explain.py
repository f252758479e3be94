"""What pydantic found wrong in a document -> problems in the file's own words, each at its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from controller.documents.schema import models_in
from controller.documents.yaml_nodes import MAX_SHOWN, Document, Node, path_words
from controller.domain.problems import Place, Problem
from controller.domain.texts import MisfitError

_SECRET = re.compile(r"(password|token|secret)$", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=//)[^\s'\"]*@|[^\s/'\":]+:[^\s'\"]*@(?!sha(?:256|512):)")

_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "a mapping",
    "string_too_short": "a text that is not empty",
    "string_type": "a text; put it in quotes if it is one",
    "tuple_type": "a list",
}
"""Pydantic's error types that the models can raise, in words."""


def problems(document: Document, model: type[BaseModel], error: ValidationError) -> list[Problem]:
    """Every error of a validation, with the place of what it is about."""
    return [_problem(document, model, each) for each in error.errors(include_url=False)]


def shown(node: Node | None, name: str = "") -> str:
    """A found value in short. Never one whose name says that it is a secret, and no user and password of a URL (law 7)."""
    if node is None or (node.value is None and not node.text):
        return "nothing"
    if _SECRET.search(name):
        return "a value that is not shown"
    if node.text is None:
        return "a mapping" if isinstance(node.value, dict) else "a list"
    text = redacted(node.text)
    text = f"{text[: MAX_SHOWN - 3]}..." if len(text) > MAX_SHOWN else text
    return repr(text) if isinstance(node.value, str) else text


def redacted(text: str) -> str:
    """The text without the user and password of an address."""
    return _USERINFO.sub("***@", text)


def _problem(document: Document, model: type[BaseModel], error: Mapping[str, Any]) -> Problem:
    loc: tuple[str | int, ...] = error["loc"]
    context: Mapping[str, Any] = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            name = str(loc[-1])
            return Problem(document.key_place(*loc), f"the unknown field {name[:MAX_SHOWN]!r}", _known_fields(model, loc))
        case "missing":
            above = document.place(*loc[:-1])
            return Problem(Place(above.file, above.line, above.column, path_words(loc)), "nothing", f"the field {loc[-1]!r}")
        case "value_error":
            return _misfit(document, loc, context["error"])
        case "enum" | "literal_error":
            expected = str(context["expected"])
        case kind:
            expected = _EXPECTED.get(kind, str(error["msg"])).format_map(context)
    return Problem(document.place(*loc), shown(document.node(*loc), str(loc[-1])), expected)


def _misfit(document: Document, loc: tuple[str | int, ...], error: Exception) -> Problem:
    if not isinstance(error, MisfitError):
        return Problem(document.place(*loc), shown(document.node(*loc)), redacted(str(error)))
    at = (*loc, error.field) if error.field else loc
    found = redacted(error.found) or shown(document.node(*at), str(at[-1]) if at else "")
    return Problem(document.place(*at), found, error.expected)


def _known_fields(model: type[BaseModel], loc: tuple[str | int, ...]) -> str:
    """The fields that may stand there, and the one that was probably meant."""
    for step in loc[:-1]:
        model = _model_below(model, step) if isinstance(step, str) else model
    names = [info.alias or name for name, info in model.model_fields.items()]
    near = get_close_matches(str(loc[-1]), names, 1)
    return f"one of {', '.join(names)}" + (f"; did you mean {near[0]!r}?" if near else "")


def _model_below(model: type[BaseModel], name: str) -> type[BaseModel]:
    info = next(info for field, info in model.model_fields.items() if name in (info.alias, field))
    return next(models_in(info.annotation), model)
