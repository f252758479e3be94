"""What Prometheus is told. No label holds the name of an image, so the number of series does not grow with the images."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, PlatformCollector, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controller import __version__
from controller.domain.actions import Action, Kind
from controller.domain.status import ImageStatus
from controller.engine.apply import Outcome
from controller.engine.reconcile import Look
from controller.engine.shift import Shift

CONDITIONS = ("Ready", "InRegistry", "HostClean", "DigestChanged")
STATUSES = ("True", "False", "Unknown")
RESULTS = ("done", "failed")
_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)


class Metrics:
    """Counts what is done, and is the Progress that counts it. It counts on when the files ask for another world."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # Twice the series, for what the scrape's own time tells.
        self._registry = CollectorRegistry()
        self._shift: Shift | None = None
        self._held: Mapping[str, int] = {}
        self._add_own()
        self._registry.register(_Standing(self))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        Info("wharf_build", "The version that runs.", registry=self._registry).info({"version": __version__})

    def _add_own(self) -> None:
        known = self._registry
        self._actions = Counter("wharf_actions", "Actions that ended, by kind and result.", ["action", "result"], registry=known)
        self._bytes = Counter("wharf_bytes", "Bytes that actions moved or read back.", ["action"], registry=known)
        self._seconds = Histogram("wharf_action_duration_seconds", "How long actions took.", ["action"], buckets=_SECONDS, registry=known)
        self._lag = Histogram(
            "wharf_lag_seconds", "From when an image was due (a change noticed, a pause over) until it was done.", buckets=_SECONDS, registry=known
        )
        self._looks = Counter("wharf_looks", "Full looks that ended, by whether the registry answered.", ["result"], registry=known)
        self._look_seconds = Gauge("wharf_last_look_duration_seconds", "How long the last full look took.", registry=known)
        self._look_time = Gauge("wharf_last_look_timestamp_seconds", "When the last full look began to which the registry answered.", registry=known)
        self._registry_up = Gauge("wharf_registry_up", "Whether the registry answered the last full look.", registry=known)
        self._pulls = Counter(
            "wharf_pulls_from_internet", "Images that clients pulled from the internet, by whether they are kept.", ["result"], registry=known
        )
        self._pulled = Counter("wharf_pulled_from_internet_bytes", "Bytes of images that were brought from the internet so.", registry=known)
        self._images = Gauge("wharf_images", "Images by each condition, as of the last full look.", ["condition", "status"], registry=known)
        self._needs_push = Gauge("wharf_images_needing_push", "Images that are on a host and not in the registry.", registry=known)
        for kind in Kind:  # From zero, so that the first failure is an increase already.
            self._bytes.labels(kind)
            self._seconds.labels(kind)
            for result in RESULTS:
                self._actions.labels(kind, result)
        for result in RESULTS:
            self._looks.labels(result)
            self._pulls.labels(result)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All of it in the format that is asked for, and that format's content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    # What happens.

    def began(self, shift: Shift) -> None:
        """A shift takes over."""
        self._shift = shift

    def looked(self, look: Look) -> None:
        """A full look ended."""
        answered = not look.seen.registry_error
        self._looks.labels("done" if answered else "failed").inc()
        self._registry_up.set(answered)
        if answered:
            self._look_time.set(look.seen.now)
        self._held = Count(str(row.reason) for row in look.plan.held_back)
        images = {image.name: image for each in look.sets for image in each.images}.values()
        self._needs_push.set(sum(image.needs_push is True for image in images))
        found = _by_condition(images)
        for condition in CONDITIONS:
            for status in STATUSES:
                self._images.labels(condition, status).set(found[condition, status])

    def took(self, seconds: float) -> None:
        """An image was due, and is done."""
        self._lag.observe(seconds)

    def lasted(self, seconds: float) -> None:
        """How long a full look took."""
        self._look_seconds.set(seconds)

    def pulled(self, count: int, *, kept: bool) -> None:
        """A client pulled an image from the internet, of so many bytes."""
        self._pulls.labels("done" if kept else "failed").inc()
        self._pulled.inc(count)

    def started(self, action: Action) -> None:
        """Nothing: what ends is counted."""

    def advanced(self, action: Action, count: int) -> None:
        """Bytes, as they move."""
        self._bytes.labels(action.kind).inc(count)

    def finished(self, outcome: Outcome) -> None:
        """One action more."""
        self._actions.labels(outcome.action.kind, "failed" if outcome.error else "done").inc()
        self._seconds.labels(outcome.action.kind).observe(outcome.seconds)

    # What is asked for when it is told.

    def standing(self) -> Iterator[Metric]:
        """The queue, the hosts and what is held back."""
        depth = GaugeMetricFamily("wharf_queue_depth", "Images in the work queue: due, waiting for their time, worked on.", labels=["state"])
        hosts = GaugeMetricFamily("wharf_hosts_up", "Whether a host answered when it was last looked at.", labels=["host"])
        held = GaugeMetricFamily("wharf_held_back", "What is held back, by reason, as of the last full look.", labels=["reason"])
        standing = self._shift.standing if self._shift else None
        for state, count in (standing.queue if standing else {"due": 0, "waiting": 0, "working": 0}).items():
            depth.add_metric([state], count)
        for host, up in (standing.hosts if standing else {}).items():
            hosts.add_metric([host], up)
        for reason, count in sorted(self._held.items()):
            held.add_metric([reason], count)
        yield from (depth, hosts, held)


def _by_condition(images: Iterable[ImageStatus]) -> Mapping[tuple[str, str], int]:
    return Count((condition.type, condition.status) for image in images for condition in image.conditions)


class _Standing(Collector):
    """What has to be asked for at each scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return self._metrics.standing()
