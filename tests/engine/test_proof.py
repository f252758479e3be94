"""The proof of presence by itself, in memory: each thing that it compares or reads, broken alone, leaves the image where it is (law 1)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from controller.domain.errors import UnprovenError, WharfError
from controller.domain.observation import HostImage, StoreKind
from controller.domain.oci import DOCKER_MANIFEST, OCI_INDEX, Manifest, digest_of, parse_manifest
from controller.domain.ports.hosts import ImageDetail
from controller.domain.reference import Target, held_tag, parse
from controller.engine.prove import PROOF_LASTS, Proof, Prover, hold
from tests.support.memory import MemoryRegistry, config_of, image_manifest

KALI = Target("cyroid/kali", "1")
FOREIGN = {"urls": ["https://elsewhere.example/layer"]}


class Quay:
    """A registry with one image, and what is asked of it; `now` are monotonic seconds."""

    def __init__(self) -> None:
        self.registry = MemoryRegistry()
        self.now = 0.0
        self.renewed: list[Target] = []
        self.prover = Prover(self.registry, lambda: self.now, self._renew)
        self.kali = self.registry.add(KALI.repository, KALI.tag, b"kali")
        self.home = self.registry.repositories[KALI.repository]

    async def _renew(self, place: Target) -> None:
        self.renewed.append(place)

    async def classic(self, manifest: Manifest | None = None, layers: Iterable[bytes] = (b"kali",)) -> Proof:
        """Prove what a classic store has of this manifest."""
        config = (manifest or self.kali).config
        assert config is not None
        return await self._prove(HostImage(config.digest, ()), tuple(map(digest_of, layers)), StoreKind.CLASSIC)

    async def containerd(self, manifest: Manifest, *platforms: str) -> Proof:
        """Prove what a containerd store has of this manifest; without platforms it does not tell which."""
        return await self._prove(HostImage(manifest.digest, (), manifests=platforms), (), StoreKind.CONTAINERD)

    async def _prove(self, image: HostImage, diff_ids: tuple[str, ...], store: StoreKind) -> Proof:
        return await self.prover.prove(KALI, image, ImageDetail(image.id, (), diff_ids, None), store, lambda _: None)

    def put(self, manifest: Manifest, tag: str = KALI.tag) -> Manifest:
        """A manifest as it is, whatever it says of its blobs."""
        self.home.manifests[manifest.digest] = manifest
        self.home.tags[tag] = manifest.digest
        return manifest

    def told(self, tag: str = KALI.tag, **more: Any) -> Manifest:
        """The image again, with something more said of its config or its layer."""
        said = json.loads(self.kali.raw)
        said["config"] |= more.get("config", {})
        said["layers"][0] |= more.get("layer", {})
        return self.put(parse_manifest(json.dumps(said).encode()), tag)

    def index(self, *children: Manifest) -> Manifest:
        """An index of these."""
        listed = [{"mediaType": each.media_type, "digest": each.digest, "size": len(each.raw)} for each in children]
        return self.put(parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).encode()))

    def damage(self, content: bytes) -> None:
        """A blob has other bytes, as many."""
        self.home.blobs[digest_of(content)] = b"!" * len(content)


@pytest.fixture
def quay() -> Quay:
    """A quay with an image."""
    return Quay()


async def test_what_is_whole_is_proven(quay: Quay) -> None:
    """By each store's own names for it; nothing has to be held."""
    proof = Proof(KALI.repository, KALI.tag, quay.kali.digest)
    assert await quay.classic() == proof
    assert await quay.containerd(quay.kali) == proof
    assert await quay.containerd(quay.kali, quay.kali.digest) == proof
    assert quay.renewed == []


@pytest.mark.parametrize("more", [{"layer": FOREIGN}, {"config": FOREIGN}, {"config": {"mediaType": "application/vnd.foreign.config"}}], ids=str)
async def test_what_is_left_at_its_url_is_never_proven(quay: Quay, more: dict[str, Any]) -> None:
    """The registry need not have it, and nobody looks whether it has: a layer, and a config that says so of itself."""
    manifest = quay.told(**more)
    with pytest.raises(UnprovenError, match="left at its url"):
        await quay.classic(manifest)
    for platforms in ((), (manifest.digest,)):
        with pytest.raises(UnprovenError, match="left at its url"):
            await quay.containerd(manifest, *platforms)


async def test_another_size_than_the_manifest_says(quay: Quay) -> None:
    """The digest is right: whoever reads it by the manifest gets something else."""
    with pytest.raises(UnprovenError, match="not whole"):
        await quay.containerd(quay.told(layer={"size": 5}))


async def test_another_config_is_another_image(quay: Quay) -> None:
    """The same layers by the same tag, another Id: of a single image, and of an index' child."""
    other = image_manifest(config_of([b"kali"], {"an": "other"}), [b"kali"], DOCKER_MANIFEST)
    for tagged in (quay.kali, quay.index(quay.kali)):
        quay.put(tagged)
        with pytest.raises(UnprovenError, match="no tag of"):
            await quay.classic(other)


async def test_other_layers_than_the_hosts(quay: Quay) -> None:
    """The config has the host's Id, and yet the host tells of other layers."""
    with pytest.raises(UnprovenError, match="names other layers"):
        await quay.classic(layers=[b"kali", b"more"])


async def test_a_damaged_config_of_a_classic_store(quay: Quay) -> None:
    """It says the same of the layers still, and has not its digest any more."""
    config = config_of([b"kali"])
    quay.home.blobs[digest_of(config)] = config.replace(b"amd64", b"arm64")
    with pytest.raises(UnprovenError, match="other bytes"):
        await quay.classic()


async def test_each_platform_that_a_host_holds(quay: Quay) -> None:
    """All of them are read, the last one too; one that the registry's index has not is another image."""
    platforms = [quay.registry.add(KALI.repository, f"platform-{word.decode()}", word) for word in (b"a", b"b", b"c")]
    index = quay.index(*platforms[:2])
    held = [each.digest for each in platforms]
    assert (await quay.containerd(index, *held[:2])).digest == index.digest
    with pytest.raises(UnprovenError, match="no tag of"):
        await quay.containerd(index, held[0], held[2])
    quay.now += PROOF_LASTS
    quay.damage(b"b")
    assert (await quay.containerd(index, held[0])).digest == index.digest
    for told in (held[:2], []):
        with pytest.raises(UnprovenError, match="not whole"):
            await quay.containerd(index, *told)


@pytest.mark.parametrize("told", [True, False])
async def test_an_index_within_an_index(quay: Quay, *, told: bool) -> None:
    """An index has no blobs of its own: what is below it is what has to be there."""
    inner = quay.index(quay.kali)
    outer = quay.index(inner)
    platforms = (inner.digest,) if told else ()
    assert (await quay.containerd(outer, *platforms)).digest == outer.digest
    quay.now += PROOF_LASTS
    quay.damage(b"kali")
    with pytest.raises(UnprovenError, match="not whole"):
        await quay.containerd(outer, *platforms)


async def test_a_proof_does_not_last(quay: Quay) -> None:
    """Ten minutes at most; until then nothing is read twice."""
    await quay.classic()
    quay.damage(b"kali")
    quay.now += PROOF_LASTS - 1
    await quay.classic()
    quay.now += 1
    with pytest.raises(UnprovenError, match="not whole"):
        await quay.classic()


@pytest.mark.parametrize("held", [True, False])
async def test_what_no_tag_of_its_own_means_is_held(quay: Quay, *, held: bool) -> None:
    """Found under the tag that holds it, whose time begins anew; or by its digest alone, and then it gets one."""
    tag = held_tag(quay.kali.digest)
    del quay.home.tags[KALI.tag]
    if held:
        quay.home.tags[tag] = quay.kali.digest
    image = HostImage(quay.kali.digest, (), (parse(f"{KALI.repository}@{quay.kali.digest}"),), manifests=(quay.kali.digest,))
    proof = await quay._prove(image, (), StoreKind.CONTAINERD)
    assert (proof.tag, quay.home.tags[tag]) == (tag, quay.kali.digest)
    assert quay.renewed == [Target(KALI.repository, tag)]


async def test_a_tag_that_should_hold_it_and_means_something_else(quay: Quay) -> None:
    """Somebody else's, or a registry that says yes and does something else: it counts as held when that was read back."""
    other = quay.registry.add(KALI.repository, "other", b"other")
    quay.home.tags[held_tag(quay.kali.digest)] = other.digest
    with pytest.raises(UnprovenError, match="can't be held"):
        await hold(quay.registry, KALI.repository, quay.kali)
    del quay.home.tags[held_tag(quay.kali.digest)]

    async def forgets(*_: object) -> None:
        """201, and nothing."""

    quay.registry.put_manifest = forgets  # type: ignore[method-assign,assignment] # a registry that keeps nothing
    with pytest.raises(WharfError):
        await hold(quay.registry, KALI.repository, quay.kali)
