"""A bundle beside the versions before it: what seems stale or wrong. Pure.

Knows: what a new version of a model must have in common with the one that serves, and what its data says
of its age. Rules: what would break clients, or what the bundle itself contradicts, is refused by name with
its remedy; what is only suspicious is a warning; the bundle itself, built before, is no predecessor.
Leaves to others: reading the versions (`build`) and showing the warnings.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.manifest import Manifest
from appliance.tensors import AxisRange, Interface, TensorSpec

_CHANGE_REMEDY = (
    "keep the interface, or say `interface_changes = true` under [model] and pack it again"
)
_DATA_REMEDY = "pack it with the data that it was trained on, or set `retrained = false`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A version in the store: its number and what its bundle says."""

    number: int
    manifest: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What seems wrong, in a sentence without full stop; with a `remedy` it is refused."""

    text: str
    remedy: str = ""


def compare(
    manifest: Manifest, before: Sequence[Known], active: int | None = None
) -> tuple[Finding, ...]:
    """What seems stale or wrong in a new bundle, worst first.

    `before` are the model's versions by rising number, without this very bundle; `active` is the one that
    serves, where that is known, else the newest is compared.
    """
    if not before:
        return ()
    serving = next((known for known in before if known.number == active), None)
    other, what = (before[-1], "the newest here") if serving is None else (serving, "which serves")
    findings = [
        *_interface(manifest, other, what),
        *_data(manifest, before),
        *_source(manifest, before),
    ]
    return tuple(sorted(findings, key=lambda finding: not finding.remedy))


def _interface(manifest: Manifest, other: Known, what: str) -> Iterator[Finding]:
    remedy = "" if manifest.interface_changes else _CHANGE_REMEDY
    unlike = f"unlike in version {other.number}, {what}"
    for text in changes(other.manifest.served, manifest.served):
        yield Finding(text=f"{text}, {unlike}", remedy=remedy)
    if manifest.states and not other.manifest.states:
        yield Finding(text=f"requests must belong to a sequence, {unlike}", remedy=remedy)
    was, is_now = other.manifest.recipe.labels, manifest.recipe.labels
    if was != is_now:
        yield Finding(text=f"{_labels(was, is_now)}, {unlike}", remedy=remedy)


def changes(was: Interface, is_now: Interface) -> Iterator[str]:
    """How the served interface `is_now` differs for a client of `was`, a clause each."""
    for what, before, after in (
        ("input", was.inputs, is_now.inputs),
        ("output", was.outputs, is_now.outputs),
    ):
        yield from _tensors(what, before, after)
    if bool(was.batch_max) != bool(is_now.batch_max):
        yield "requests have rows" if is_now.batch_max else "requests have no rows"
    elif is_now.batch_max < was.batch_max:
        yield f"a request may have {is_now.batch_max} rows, not {was.batch_max}"


def _tensors(what: str, was: Sequence[TensorSpec], is_now: Sequence[TensorSpec]) -> Iterator[str]:
    before = {spec.name: spec for spec in was}
    after = {spec.name: spec for spec in is_now}
    gone = [spec for spec in was if spec.name not in after]
    added = [spec for spec in is_now if spec.name not in before]
    for spec in gone:
        same = [new for new in added if (new.datatype, new.shape) == (spec.datatype, spec.shape)]
        if same:
            added.remove(same[0])
            yield f"{what} '{spec.name}' is called '{same[0].name}'"
        else:
            yield f"{what} '{spec.name}' is gone"
    # An output more breaks no client; an input more does, for nobody sends it.
    if what == "input":
        yield from (f"{what} '{spec.name}' is new" for spec in added)
    for name, new in after.items():
        old = before.get(name, new)
        if old.datatype is not new.datatype:
            yield f"{what} '{name}' is {new.datatype}, not {old.datatype}"
        if old.shape != new.shape:
            yield f"{what} '{name}' has shape {list(new.shape)}, not {list(old.shape)}"
        elif what == "input":
            yield from _ranges(old, new)


def _ranges(old: TensorSpec, new: TensorSpec) -> Iterator[str]:
    """Lengths of open axes that `old` took and `new` does not."""
    for at in range(len(new.shape)):
        before, after = _range(old, at), _range(new, at)
        if after is None or after == before:
            continue
        if (
            before is None
            or after.min > before.min
            or after.max < before.max
            or (before.min - after.min) % after.step
            or before.step % after.step
        ):
            yield f"input '{new.name}' takes fewer lengths of axis {at}: {after}"


def _range(spec: TensorSpec, at: int) -> AxisRange | None:
    return spec.ranges[at] if at < len(spec.ranges) else None


def _labels(was: tuple[str, ...], is_now: tuple[str, ...]) -> str:
    if not was or not is_now:
        return "there are labels" if is_now else "there are no labels"
    if sorted(was) == sorted(is_now):
        at = next(i for i, pair in enumerate(zip(was, is_now, strict=True)) if pair[0] != pair[1])
        return f"the labels have another order: class {at} is '{is_now[at]}', not '{was[at]}'"
    gone = [label for label in was if label not in is_now]
    new = [label for label in is_now if label not in was]
    return f"the labels are others: {len(new)} are new {new[:3]}, {len(gone)} are gone {gone[:3]}"


def _data(manifest: Manifest, before: Sequence[Known]) -> Iterator[Finding]:
    """What provenance and sample say of the age of the data."""
    newest, older = before[-1], before[:-1]
    retrained = manifest.provenance.retrained
    data = manifest.provenance.data_sha256
    trained_alike = [known for known in before if known.manifest.provenance.data_sha256 == data]
    if retrained and trained_alike:
        yield Finding(
            text=f"it says `retrained`, yet its training data is that of version "
            f"{trained_alike[-1].number}",
            remedy=_DATA_REMEDY,
        )
    if manifest.sample_sha256 == newest.manifest.sample_sha256:
        if retrained:
            yield Finding(
                text=f"it says `retrained`, yet its sample is that of version {newest.number}"
            )
        return
    stale = [known for known in older if known.manifest.sample_sha256 == manifest.sample_sha256]
    if stale:
        yield Finding(
            text=f"its sample is that of version {stale[-1].number}, older than that of version "
            f"{newest.number}",
            remedy=_DATA_REMEDY if retrained else "",
        )


def _source(manifest: Manifest, before: Sequence[Known]) -> Iterator[Finding]:
    same = [known for known in before if known.manifest.source_sha256 == manifest.source_sha256]
    if not same:
        return
    if manifest.provenance.retrained:
        yield Finding(
            text=f"it says `retrained`, yet its model is that of version {same[-1].number}",
            remedy="pack the model that was trained anew, or set `retrained = false`",
        )
    elif same[-1].manifest.recipe == manifest.recipe:
        yield Finding(text=f"model and recipe are those of version {same[-1].number}")
