"""The reference page of the desired-state file, docs/desired-state.md, made from the models: `python -m controller.documents.reference`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from importlib.resources import files
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from controller.documents.schema import KINDS, defaults, models, models_in
from controller.domain.texts import Form

_INTRO = """\
# The desired-state file

<!-- Made from the models by `python -m controller.documents.reference`; change those, not this page. -->

A desired-state file is YAML and holds documents of two kinds, separated by `---`: a **Wharf** says where images are (one registry and its
hosts), an **ImageSet** says which ones there must be. Both kinds may stand in one file or in several; `wharf` takes files and folders. Of a
folder it reads every `*.yaml` and `*.yml` below it that is not hidden.

Unknown fields, duplicate keys and values that do not fit are errors. All of them are told at once, with file, line and column.
`wharf validate` tells them and does nothing else; `wharf schema` prints a JSON Schema for editors.
"""

_RULES = """\
## Rules

**YAML.** Values are read by YAML 1.2: `on` and `yes` are texts, only `true` and `false` are not; `22h2` is a text and `1.27` a number, so a
version that stands alone needs quotes. Anchors and aliases work; merge keys (`<<`) and tags (`!!`) are errors. A file is UTF-8 and has at
most 16 MiB.

**Relative paths** begin at the folder of the file that says them.

**Names of images.** In `images` a name without a domain is local: `cyroid/kali` is the repository `cyroid/kali` of the registry. A name with a
domain is pulled through from there, if `upstreams` lists that domain. The first part of a name is a domain if it has a dot, a colon or an
uppercase letter, or is `localhost`. On a host every name is canonical: `cyroid/kali` there is `docker.io/cyroid/kali`, and `nginx` is
`docker.io/library/nginx`. A host's name means the repository that is found first:

1. an address or alias of the registry is taken off: `172.30.0.16:5000/cyroid/kali` is `cyroid/kali`;
2. a local name that a set lists;
3. what `adopt` matches is local;
4. else the domain stays as the first part, a port with `_`: `host:8443/tool` is `host_8443/tool`.

Two entries that claim one host name are an error.

**Tags and digests.** No tag means `latest`. With a tag and a digest, the digest decides.

**Patterns** are globs over canonical names: `*` stops at `/`, `**` crosses it, and no tag means every tag. `cyroid/**` is
`docker.io/cyroid/**`, `docker:*-dind` is `docker.io/library/docker:*-dind`, `**` is every image of every domain. An image matches if one of
its tags does.

**What goes before what** on a host: `keep`, then in use by any container, then `present`, `absent`, `adopt`. `present` and `absent` for one
image are an error. `adopt` pushes; it evicts only what `absent` matches.
"""


def markdown() -> str:
    """The whole page."""
    sample = files("controller.documents").joinpath("sample.yaml").read_text(encoding="utf-8")
    parts = [_INTRO, f"## Example\n\n```yaml\n{sample}```\n", _RULES]
    parts.extend(part for kind in KINDS for part in _sections(kind, ""))
    parts.append(_forms())
    return "\n".join(parts)


def _sections(model: type[BaseModel], path: str) -> Iterator[str]:
    title = f"### `{path}`" if path else f"## {model.__name__}"
    yield f"{title}\n\n{_oneline(model.__doc__)}\n\n{_table(model)}"
    for name, info in _fields(model):
        for below in models_in(info.annotation):
            yield from _sections(below, f"{path}.{name}".removeprefix(".") + "[]" * _is_list(info.annotation))


def _table(model: type[BaseModel]) -> str:
    written = defaults(model)
    rows = (
        (f"`{name}`", _type(_whole(info)), "required" if info.is_required() else _default(written.get(name)), _meaning(info))
        for name, info in _fields(model)
    )
    return _rows(("Field", "Type", "Default", "Meaning"), rows)


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    return ((info.alias or name, info) for name, info in model.model_fields.items())


def _default(value: object) -> str:
    if value in (None, [], {}):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _meaning(info: FieldInfo) -> str:
    examples = ", ".join(f"`{each}`" for each in info.examples or ())
    return _oneline(info.description) + (f" Example: {examples}." if examples else "")


def _whole(info: FieldInfo) -> object:
    """The field's type with the form that pydantic took out of it."""
    form = _form(info.metadata)
    return Annotated[info.annotation, form] if form else info.annotation


def _type(annotation: object) -> str:
    """A type in the page's words."""
    origin, parts = get_origin(annotation), [part for part in get_args(annotation) if part not in (NoneType, Ellipsis)]
    if origin is Annotated:
        form = _form(parts[1:])
        return f"[{form.name}](#forms-of-text)" if form else _type(parts[0])
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin is tuple:
        return f"list of {_type(parts[0])}"
    if origin is dict:
        return f"mapping of {_type(parts[1])}"
    return " or ".join(map(_type, parts)) if parts else _plain_type(annotation)


def _plain_type(annotation: object) -> str:
    if not isinstance(annotation, type):
        raise TypeError(annotation)
    if issubclass(annotation, BaseModel):
        return "mapping"
    if issubclass(annotation, StrEnum):
        return ", ".join(f"`{each}`" for each in annotation)
    return {str: "text", bool: "`true`, `false`", int: "whole number"}[annotation]


def _form(metadata: Iterable[Any]) -> Form | None:
    return next((each for each in metadata if isinstance(each, Form)), None)


def _is_list(annotation: object) -> bool:
    return get_origin(annotation) is tuple or any(map(_is_list, get_args(annotation)))


def _forms() -> str:
    """Every form that a field has, in the order of their first use."""
    used: dict[Form, None] = {}
    for model in models():
        for info in model.model_fields.values():
            used |= dict.fromkeys(_forms_in(_whole(info)))
    rows = ((form.name, form.meaning, ", ".join(f"`{each}`" for each in form.examples)) for form in used)
    return "## Forms of text\n\n" + _rows(("Form", "What it is", "Examples"), rows)


def _forms_in(annotation: object) -> Iterator[Form]:
    for part in get_args(annotation):
        if isinstance(part, Form):
            yield part
        yield from _forms_in(part)


def _rows(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heading, ("---",) * len(heading), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _oneline(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    sys.stdout.write(markdown())
