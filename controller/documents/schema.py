"""The JSON Schema of desired-state files, for editors: field names, defaults and values as the file writes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from controller.domain.spec import ImageSet, Wharf

DIALECT = "https://json-schema.org/draft/2020-12/schema"

KINDS: tuple[type[BaseModel], ...] = (Wharf, ImageSet)


def json_schema() -> dict[str, Any]:
    """One schema for a document of either kind; the kind decides which fields there are."""
    _, made = models_json_schema([(kind, "validation") for kind in KINDS])
    definitions: dict[str, Any] = made["$defs"]
    for model in models():
        _as_in_the_file(definitions[model.__name__], model)
    for definition in definitions.values():
        _without_titles(definition)
    names = [kind.__name__ for kind in KINDS]
    return {
        "$schema": DIALECT,
        "title": "Desired state of a Wharfinger",
        "description": "A document of kind Wharf or ImageSet; a file may hold several, separated by ---.",
        "type": "object",
        "properties": {"kind": {"enum": names, "description": "The document's kind."}},
        "required": ["kind"],
        "allOf": [{"if": {"properties": {"kind": {"const": name}}, "required": ["kind"]}, "then": {"$ref": f"#/$defs/{name}"}} for name in names],
        "$defs": definitions,
    }


def models() -> list[type[BaseModel]]:
    """The models of both kinds and of all that is in them, each before those that it holds."""
    found: dict[type[BaseModel], None] = {}
    for kind in KINDS:
        found |= dict.fromkeys(_models_of(kind))
    return list(found)


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """The models that a field's type names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def defaults(model: type[BaseModel]) -> dict[str, Any]:
    """The defaults of a model's fields as a file would write them, by the field's name there. A field that is None by default has none."""
    blank = model.model_construct(_fields_set=set(model.model_fields))
    return blank.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)


def _models_of(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for info in model.model_fields.values():
        for below in models_in(info.annotation):
            yield from _models_of(below)


def _as_in_the_file(definition: dict[str, Any], model: type[BaseModel]) -> None:
    written = defaults(model)
    for name, said in definition["properties"].items():
        said.pop("default", None)
        if name in written:
            said["default"] = written[name]


def _without_titles(schema: dict[str, Any]) -> None:
    """Pydantic gives every part its Python name as a title; editors show the field's own name."""
    schema.pop("title", None)
    for said in schema.get("properties", {}).values():
        said.pop("title", None)
