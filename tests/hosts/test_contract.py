"""What every Host keeps (controller.domain.ports.hosts.Host), on a classic engine, on one with the containerd store, and on the twin in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from controller.domain.errors import CorruptError, MovedError, NotFoundError, RefusedError, RemoteError
from controller.domain.observation import HostImage, StoreKind
from controller.domain.ports.hosts import BuildRequest
from controller.domain.reference import parse
from controller.sources.contexts import FolderContexts
from tests.hosts.conftest import Subject
from tests.support.folders import source_of


async def _only(subject: Subject) -> HostImage:
    (image,) = (await subject.host.look()).images
    return image


async def test_look_lists_images_by_id_with_canonical_tags(subject: Subject) -> None:
    """A look gives every image once, its tags canonical and sorted, and knows the store."""
    image_id = subject.build("cyroid/kali:1")
    await subject.host.tag(image_id, "tools/kali:2")
    state = await subject.host.look()
    assert state.engine_id
    assert state.store in {StoreKind.CLASSIC, StoreKind.CONTAINERD}
    assert [(image.id, image.tags) for image in state.images] == [(image_id, (parse("cyroid/kali:1"), parse("tools/kali:2")))]
    assert state.images[0].size > 0
    assert state.images[0].used_by == ()


async def test_look_names_the_containers_that_use_an_image(subject: Subject) -> None:
    """Stopped containers count: their image is in use."""
    subject.build("cyroid/kali:1")
    subject.use("cyroid/kali:1")
    assert (await _only(subject)).used_by == ("user",)


async def test_an_image_stays_in_use_when_its_tag_moves_on(subject: Subject) -> None:
    """A container is known by its image, not only by the name that it was started with."""
    first = subject.build("cyroid/kali:1")
    await subject.host.tag(first, "cyroid/old:1")
    subject.use("cyroid/kali:1")
    second = subject.build("cyroid/kali:1")
    images = {image.id: image for image in (await subject.host.look()).images}
    assert images[first].used_by == ("user",)
    assert second in images


async def test_layers_are_told_of_every_image(subject: Subject) -> None:
    """With the bytes that each takes; images of their own share none."""
    ids = {subject.build("cyroid/kali:1"), subject.build("cyroid/win:1")}
    layers = await subject.host.layers()
    assert ids <= layers.keys()
    assert all(layer.size > 0 for image_id in ids for layer in layers[image_id])
    one, other = ({layer.id for layer in layers[image_id]} for image_id in ids)
    assert one.isdisjoint(other)


async def test_inspect_tells_layers(subject: Subject) -> None:
    """One image by name or by Id: the same Id, its layers' diff_ids."""
    image_id = subject.build("cyroid/kali:1")
    by_name, by_id = await subject.host.inspect("cyroid/kali:1"), await subject.host.inspect(image_id)
    assert by_name == by_id
    assert by_name.id == image_id
    assert len(by_name.diff_ids) == 1
    assert by_name.tagged_at is None or abs(by_name.tagged_at - time.time()) < 600


async def test_inspect_of_what_is_not_there(subject: Subject) -> None:
    """Absent is said as such, and only when the engine said so."""
    with pytest.raises(NotFoundError, match="cyroid/none"):
        await subject.host.inspect("cyroid/none:1")


async def test_a_tag_is_taken_off_alone(subject: Subject) -> None:
    """Removing one of two tags deletes nothing."""
    image_id = subject.build("cyroid/kali:1")
    await subject.host.tag(image_id, "tools/kali:2")
    removal = await subject.host.remove("tools/kali:2")
    assert removal.deleted == ()
    assert (await _only(subject)).tags == (parse("cyroid/kali:1"),)


async def test_a_name_is_taken_off_and_nothing_deleted(subject: Subject) -> None:
    """One of two names, and even the last one: the image stays. What means another image is left alone."""
    image_id = subject.build("cyroid/kali:1")
    await subject.host.tag(image_id, "tools/kali:2")
    await subject.host.untag("tools/kali:2", image_id)
    assert (await _only(subject)).tags == (parse("cyroid/kali:1"),)
    other = subject.build("cyroid/web:1")
    with pytest.raises(MovedError):
        await subject.host.untag("cyroid/web:1", image_id)
    with pytest.raises(NotFoundError):
        await subject.host.untag("cyroid/none:1", image_id)
    await subject.host.untag("cyroid/kali:1", image_id)
    images = {image.id: image.tags for image in (await subject.host.look()).images}
    assert images == {image_id: (), other: (parse("cyroid/web:1"),)}


async def test_the_last_tag_goes_by_id(subject: Subject) -> None:
    """Removing by Id with one tag left deletes the image, and the answer names it."""
    image_id = subject.build("cyroid/kali:1")
    removal = await subject.host.remove(image_id)
    assert image_id in removal.deleted
    assert (await subject.host.look()).images == ()


async def test_an_image_in_use_is_never_removed(subject: Subject) -> None:
    """Nothing is forced: the engine refuses, by Id and by the last tag, and the image is as it was."""
    image_id = subject.build("cyroid/kali:1")
    subject.use("cyroid/kali:1")
    for name in (image_id, "cyroid/kali:1"):
        with pytest.raises(RefusedError, match="409"):
            await subject.host.remove(name)
    assert (await _only(subject)).id == image_id


async def test_remove_of_what_is_not_there(subject: Subject) -> None:
    """Somebody else was faster: said as absent."""
    with pytest.raises(NotFoundError):
        await subject.host.remove("cyroid/none:1")


async def test_push_tells_bytes_and_leaves_the_image(subject: Subject) -> None:
    """A push moves the image and changes nothing of its names but what the engine itself notes."""
    image_id = subject.build("cyroid/kali:1")
    reference = f"{subject.registry}/cyroid/kali:1"
    await subject.host.tag(image_id, reference)
    moved: list[int] = []
    await subject.host.push(reference, moved.append)
    assert all(count > 0 for count in moved)
    await subject.host.remove(reference)
    image = await _only(subject)
    assert (image.id, image.tags) == (image_id, (parse("cyroid/kali:1"),))


async def test_a_push_that_fails_in_the_stream_raises(subject: Subject) -> None:
    """Engines answer 200 and report failure inside the stream: it is raised with the engine's words."""
    image_id = subject.build("cyroid/kali:1")
    await subject.host.tag(image_id, "127.0.0.1:1/cyroid/kali:1")
    with pytest.raises(RemoteError, match=r"pushing 127\.0\.0\.1:1/cyroid/kali:1.*refused"):
        await subject.host.push("127.0.0.1:1/cyroid/kali:1", lambda _: None)


async def test_nameless_images_have_no_tags(subject: Subject) -> None:
    """What lost its name to another image is listed without a tag, or not at all; never under the other's name."""
    first = subject.build("cyroid/kali:1")
    second = subject.build("cyroid/kali:1")
    images = {image.id: image.tags for image in (await subject.host.look()).images}
    assert images[second] == (parse("cyroid/kali:1"),)
    assert images.get(first, ()) == ()


async def test_pull_brings_what_was_pushed(subject: Subject) -> None:
    """A pull gives the same image under the name that was asked for, and tells bytes; errors in its stream raise."""
    image_id = subject.build("cyroid/kali:1")
    reference = f"{subject.registry}/cyroid/kali:1"
    await subject.host.tag(image_id, reference)
    await subject.host.push(reference, lambda _: None)
    await subject.host.remove(reference)
    await subject.host.remove(image_id)
    assert (await subject.host.look()).images == ()
    moved: list[int] = []
    await subject.host.pull(reference, moved.append)
    assert all(count > 0 for count in moved)
    assert (await subject.host.inspect(reference)).id == image_id
    with pytest.raises(RemoteError, match=r"pulling .*cyroid/none:1"):
        await subject.host.pull(f"{subject.registry}/cyroid/none:1", lambda _: None)


async def test_what_is_saved_can_be_loaded(subject: Subject) -> None:
    """An image goes out as an archive and comes in again as the same, without a name. More than the limit is broken off, as is what nobody reads."""
    image_id = subject.build("cyroid/kali:1")
    archive = await _saved(subject, image_id, 10_000_000)
    with pytest.raises(CorruptError, match="more than"):
        await _saved(subject, image_id, 1000)
    async with subject.host.save(image_id, 10_000_000):
        pass
    with pytest.raises(RemoteError):
        await _saved(subject, "sha256:" + "0" * 64, 1000)
    await subject.host.remove(image_id)
    moved: list[int] = []
    await subject.host.load(_pieces(archive), moved.append)
    assert sum(moved) == len(archive)
    image = await _only(subject)
    assert (image.id, image.tags) == (image_id, ())


async def test_an_archive_that_can_not_be_made_is_not_loaded(subject: Subject) -> None:
    """What goes wrong while it is made is raised as it is; what is no archive is refused in the engine's words."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"\0" * 512
        raise MovedError("the registry changed")

    with pytest.raises(MovedError, match="the registry changed"):
        await subject.host.load(broken(), lambda _: None)
    with pytest.raises(RemoteError):
        await subject.host.load(_pieces(b"no archive" * 1000), lambda _: None)
    assert (await subject.host.look()).images == ()


async def _saved(subject: Subject, image_id: str, limit: int) -> bytes:
    async with subject.host.save(image_id, limit) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 10_000):
        yield data[at : at + 10_000]


async def test_nobody_has_a_label_that_nobody_was_given(subject: Subject) -> None:
    """Only running containers count, and only those with the label."""
    subject.build("cyroid/kali:1")
    subject.use("cyroid/kali:1")
    assert list(await subject.host.containers("cyroid.range_id")) == []


async def test_build_gives_the_image_that_the_tag_means(subject: Subject, tmp_path: Path) -> None:
    """A folder becomes an image with one tag and its labels; the same folder again is the same image."""
    source = source_of(tmp_path, {"Dockerfile": "FROM scratch\nCOPY data /\n", "data": b"x" * 100_000})
    contexts, moved = FolderContexts(), list[int]()
    request = BuildRequest("cyroid/kali:1", source, (("wharfinger.dev/context-hash", "sha256:0"),))
    image_id = await subject.host.build(request, contexts.tar(source), moved.append)
    found = await subject.host.inspect("cyroid/kali:1")
    assert (found.id, found.labels) == (image_id, request.labels)
    assert sum(moved) == (await contexts.look(source)).size
    assert (await _only(subject)).tags == (parse("cyroid/kali:1"),)
    assert await subject.host.build(request, contexts.tar(source), lambda _: None) == image_id
    assert (await _only(subject)).id == image_id


async def test_a_build_whose_folder_fails_makes_nothing(subject: Subject, tmp_path: Path) -> None:
    """What goes wrong while the folder is read is raised as it is, and there is no image of half a folder."""
    source = source_of(tmp_path, {"Dockerfile": "FROM scratch\nCOPY data /\n", "data": b"x"})

    async def broken() -> AsyncIterator[bytes]:
        async for chunk in FolderContexts().tar(source):
            yield chunk[:512]
            break
        raise MovedError("the folder changed")

    with pytest.raises(MovedError, match="the folder changed"):
        await subject.host.build(BuildRequest("cyroid/kali:1", source), broken(), lambda _: None)
    assert (await subject.host.look()).images == ()


async def test_changes_are_told(subject: Subject) -> None:
    """Whatever changes images or their use is told soon after it happened, once changes() has been entered."""
    subject.build("cyroid/before:1")
    async with subject.host.changes() as changes:

        async def told(act: Callable[[], object]) -> None:
            await asyncio.to_thread(act)
            async with asyncio.timeout(30):
                await anext(changes)

        image_id = await asyncio.to_thread(subject.build, "cyroid/kali:1")
        await told(lambda: subject.build("cyroid/other:1"))
        await subject.host.tag(image_id, "tools/kali:2")
        await anext(changes)
        await subject.host.remove("tools/kali:2")
        await anext(changes)
        await told(lambda: subject.use("cyroid/kali:1"))
