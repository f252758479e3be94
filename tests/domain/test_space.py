"""What comes free on a host: layers that nobody else has, each once."""

from __future__ import annotations

from controller.domain.space import Layer, freed

BASE, ONE, TWO = Layer("base", 400), Layer("one", 50), Layer("two", 30)
LAYERS = {"base": (BASE,), "one": (BASE, ONE), "two": (BASE, TWO), "parent": (BASE, ONE)}


def test_a_layer_that_another_image_has_stays() -> None:
    """Removing one image frees what is its own; an image without a name holds its layers too."""
    assert freed(LAYERS, {"two"}) == 30
    assert freed(LAYERS, {"one"}) == 0, "a build's parent has the same layer still"


def test_what_is_shared_is_freed_once_when_all_go() -> None:
    """Two images with the same base free it once, with the last of them."""
    assert freed(LAYERS, {"base", "one", "two", "parent"}) == 480
    assert freed(LAYERS, {"one", "parent"}) == 50


def test_an_image_that_is_not_known_frees_nothing() -> None:
    """It came after the layers were asked for."""
    assert freed(LAYERS, {"stranger"}) == 0
    assert freed({}, {"one"}) == 0
