"""What `wharf import` did, for the audit trail: it makes no plan, so nobody else records it."""

from __future__ import annotations

from controller.domain.actions import Kind, Reason
from controller.domain.ports.stores import AuditEntry, Store
from controller.domain.reference import Target
from controller.engine.importing import Imported


def record_import(store: Store, done: Imported, now: float) -> None:
    """One image under one name; what was there already, or has no name, is nothing that was done."""
    target = done.target
    if target is None or done.held:
        return
    reason = Reason.OUTDATED if done.replaces else Reason.MISSING
    error = str(done.error) if done.error else ""
    store.record(
        AuditEntry(now, "import", Kind.IMPORT, str(target), "", reason, done.replaces, done.digest, done.bytes, round(done.seconds, 3), error)
    )
    if not error:
        _held_now(store, target, done, now)


def _held_now(store: Store, target: Target, done: Imported, now: float) -> None:
    """What the tag meant is held since now; what it means is there again, if it was deleted before."""
    if done.replaces:
        store.hold(target.held(done.replaces), now)
    store.exhume(target, done.digest)
