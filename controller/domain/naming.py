"""Which place in the registry a person means by a name: as a set writes it, as the registry has it, or as a host calls it."""

from __future__ import annotations

from controller.domain.desired import Desired
from controller.domain.reference import DEFAULT_TAG, Target, held_tag, parse, parse_local, split_domain


def target_named(desired: Desired, name: str) -> Target:
    """The place that `name` means. What the files list comes first; else a name without a domain is local, as in a set.

    Raises InvalidReferenceError for a text that is no name.
    """
    listed = next((image.target for image in desired.images if name in {image.name, str(image.target)}), None)
    if listed is not None:
        return listed
    domain, rest = split_domain(name.partition("@")[0])
    if "_" in domain:  # As the registry has it: `host_8443` stands there for `host:8443`, and no domain has an underscore.
        within = parse_local(rest)
        return Target(f"{domain}/{within.repository}", within.tag)
    reference = parse(name)
    if reference.domain in desired.addresses and not reference.digest:
        return Target(reference.repository, reference.tag or DEFAULT_TAG)
    called = next((image.target for image in desired.images if image.host_name == reference), None)
    if called is not None:
        return called
    if domain:
        return Target(reference.registry_repository, reference.tag or held_tag(reference.digest))
    return parse_local(name)
