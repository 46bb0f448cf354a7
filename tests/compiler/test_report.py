"""The report: what it says, and that no name in it can do anything but be read."""

import base64
import json
import re
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import msgspec
import pytest

from appliance.files import sha256_file
from appliance.manifest import (
    Acceptance,
    Calibration,
    CalibrationMethod,
    Disturbance,
    DisturbanceKind,
    Limits,
    Manifest,
    Metric,
    Precision,
    Provenance,
    Tolerances,
)
from appliance.proof import BucketErrors, Disturbed, OutputErrors, Proof, Reached, Timing, Trial
from appliance.recipe import Cast, InputRecipe, Layout, Recipe, Softmax
from appliance.store import EngineEntry, Rebuilt, VersionRecord
from appliance.tables import from_json
from appliance.tensors import DataType, Interface, TensorSpec
from compiler.report.page import page
from compiler.report.text import report_lines, report_values
from compiler.report.writing import write_report
from compiler.wording import aligned

DIGEST = "ab" * 32
HOSTILE = "</title><script>alert(1)</script>\x1b[2J\u202e\"'&"


def manifest_of(name: str = "scores", segment: str = "site", **changes) -> Manifest:
    served = Interface(
        inputs=(TensorSpec(name="image", datatype=DataType.UINT8, shape=(8, 8, 1)),),
        outputs=(TensorSpec(name=name, datatype=DataType.FP32, shape=(10,)),),
        batch_max=8,
    )
    recipe = Recipe(
        inputs=(
            InputRecipe(feeds="x", raw=served.inputs[0], steps=(Cast(datatype="FP32"), Layout())),
        ),
        after=(Softmax(tensor=name, output="share"),),
    )
    made = Manifest(
        model="digits",
        release_notes="trained again",
        served=served,
        engine=served,
        recipe=recipe,
        precision=Precision.AUTO,
        tolerances=Tolerances(),
        acceptance=(
            Acceptance(metric=Metric.ACCURACY, output=name, minimum=0.9),
            Acceptance(metric=Metric.ACCURACY, output=name, minimum=0.8, segment=segment),
        ),
        limits=Limits(latency_ms_max=5.0, memory_bytes_max=1 << 30),
        disturbances=(),
        calibration=Calibration(method=CalibrationMethod.MINMAX, rows=100, data_sha256=DIGEST),
        fallback=True,
        provenance=Provenance(
            data_sha256=DIGEST, training_code="git abc", frameworks={"torch": "2.6"}
        ),
        source_sha256=DIGEST,
        sample_sha256=DIGEST,
        files=(),
    )
    return msgspec.structs.replace(made, **changes)


def proof_of(manifest: Manifest, value: str) -> Proof:
    overall, by_site = manifest.acceptance
    noise = Disturbance(kind=DisturbanceKind.NOISE, level=0.1)
    blur = Disturbance(kind=DisturbanceKind.BLUR, level=1.0, drop_max=0.2)
    name = overall.output
    return Proof(
        golden_rows=16,
        error_max=0.021,
        error_p99=0.008,
        outputs=(
            OutputErrors(
                output=name,
                gated=True,
                largest=0.021,
                p99=0.008,
                cosine=0.9999,
                argmax_agreement=1.0,
            ),
            OutputErrors(output="class", gated=False, agreement=0.97),
        ),
        buckets=tuple(
            BucketErrors(rows=rows, largest=0.001 * rows) for rows in (1, 2, 3, 4, 5, 7, 8)
        ),
        reached=(
            Reached(threshold=overall, value=0.968, rows=400),
            Reached(threshold=by_site, value=0.941, rows=180, segment=value),
            Reached(threshold=by_site, value=0.99, rows=220, segment="south"),
        ),
        disturbed=(
            Disturbed(
                disturbance=noise, threshold=overall, value=0.95, undisturbed=0.968, rows=400
            ),
            Disturbed(disturbance=blur, threshold=overall, value=None, undisturbed=0.968, rows=400),
        ),
        memory_bytes=38 << 20,
    )


def trials_of(name: str) -> tuple[Trial, ...]:
    trials = tuple(
        Trial(
            engine=engine,
            precision=precision,
            timings=(
                Timing(rows=1, median_ms=ms, p99_ms=2 * ms),
                Timing(rows=8, median_ms=4 * ms, p99_ms=9 * ms),
            ),
            error_max=error,
            error_p99=error / 3,
            metric=0.968,
            bytes=120_000,
            verdict=verdict,
        )
        for engine, precision, ms, error, verdict in (
            ("openvino", Precision.INT8, 0.11, 0.021, "kept"),
            ("onnxruntime", Precision.FP32, 0.19, 1e-6, "passed, slower"),
        )
    )
    failed = Trial(
        engine="openvino", precision=Precision.FP16, verdict=f"[proof.golden] output '{name}'"
    )
    return (*trials, failed)


def record_of(manifest: Manifest, value: str = "north", **changes) -> VersionRecord:
    made = VersionRecord(
        model="digits",
        bundle_sha256=DIGEST,
        signer=DIGEST,
        built="2026-11-21T02:00:00Z",
        release="0.2.0",
        engine=EngineEntry(
            kind="openvino",
            precision=Precision.INT8,
            file="engine.blob",
            sha256=DIGEST,
            stamp={"library": "openvino 2026.1"},
        ),
        proof=proof_of(manifest, value),
        trials=trials_of(manifest.acceptance[0].output),
        warnings=("the sample is older than the version before",),
        files=(),
    )
    return msgspec.structs.replace(made, **changes)


class Page(HTMLParser):
    """What a browser would make of the page, as far as it matters here."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_page_says_what_the_record_does():
    manifest = manifest_of()
    said = Page(page(manifest, record_of(manifest), sheet=b"\x89PNG picture")).said
    for wanted in (
        "digits",
        "trained again",
        "the sample is older than the version before",
        "openvino",
        "int8 asked for: auto",
        "site = north",
        "0.9410",
        "at least 0.9",
        "16 golden rows",
        "1, 2, 3, 4, 5, 7, 8 rows a call",
        "97.00%",
        "[proof.golden] output 'scores'",
        "does not apply",
        "38.0 MiB",
        "at most 1.0 GiB",
        "minmax over 100 rows",
        "cast, layout",
    ):
        assert wanted in said, wanted


def test_the_page_needs_nothing_from_elsewhere():
    manifest = manifest_of()
    html = page(manifest, record_of(manifest), sheet=b"picture")
    read = Page(html)
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in read.tags}
    sources = [v for _, attrs in read.tags for k, v in attrs.items() if k in ("src", "href")]
    assert sources == ["data:image/png;base64," + base64.b64encode(b"picture").decode()]
    assert not any(key.startswith("on") for _, attrs in read.tags for key in attrs)
    assert "url(" not in html
    assert "@import" not in html
    policy = next(attrs for tag, attrs in read.tags if attrs.get("http-equiv"))
    assert policy["content"].startswith("default-src 'none'")
    assert "What the engine sees" not in page(manifest, record_of(manifest))


def test_hostile_names_are_only_read():
    manifest = manifest_of(HOSTILE, HOSTILE, release_notes=HOSTILE)
    plain = manifest_of()
    record = record_of(manifest, HOSTILE, warnings=(HOSTILE,))
    html = page(manifest, record)
    assert "<script" not in html
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert "\\x1b[2J\\u202e" in html
    tags = [tag for tag, _ in Page(html).tags]
    assert tags == [tag for tag, _ in Page(page(plain, record_of(plain))).tags]
    assert "\x1b" not in aligned(report_lines(manifest, record))


def test_every_plot_is_well_formed_and_told_in_words():
    manifest = manifest_of()
    plots = re.findall(r"<svg.*?</svg>", page(manifest, record_of(manifest)), re.DOTALL)
    assert len(plots) == 5
    names = set()
    for plot in plots:
        root = ET.fromstring(plot)
        title, told = root[0], root[1]
        assert (title.tag.endswith("title"), told.tag.endswith("desc")) == (True, True)
        assert title.text
        assert told.text
        assert root.attrib["aria-labelledby"] == f"{title.attrib['id']} {told.attrib['id']}"
        names.add(title.attrib["id"])
    assert len(names) == 5


def test_a_version_without_figures_has_a_page_too():
    manifest = manifest_of()
    proof = msgspec.structs.replace(
        record_of(manifest).proof,
        error_max=0.0,
        error_p99=0.0,
        outputs=(),
        buckets=(),
        reached=(),
        disturbed=(),
        memory_bytes=None,
    )
    bare = record_of(manifest, proof=proof, trials=(), warnings=())
    html = page(manifest, bare)
    assert "names no acceptance threshold" in html
    assert "<svg" not in html


def test_both_files_are_written_with_their_digests(tmp_path):
    manifest = manifest_of()
    record = record_of(manifest)
    entries = write_report(tmp_path, manifest, record, sheet=b"picture")
    assert [item.name for item in entries] == ["report.json", "report.html"]
    for item in entries:
        assert item.sha256 == sha256_file(tmp_path / item.name)
        assert item.bytes == (tmp_path / item.name).stat().st_size
    values = json.loads((tmp_path / "report.json").read_bytes())
    assert values == json.loads(msgspec.json.encode(report_values(manifest, record)))
    assert (
        from_json(json.dumps(values["proof"]).encode(), Proof, ValueError, where="") == record.proof
    )
    before = (tmp_path / "report.html").read_bytes()
    assert write_report(tmp_path, manifest, record, sheet=b"picture") == entries
    assert (tmp_path / "report.html").read_bytes() == before


def test_the_lines_say_the_same():
    manifest = manifest_of()
    told = aligned(report_lines(manifest, record_of(manifest)))
    for wanted in (
        "openvino int8 (openvino 2026.1)",
        "accuracy of scores 0.9410 on 180 held-out rows with site = north (agreed: at least 0.8)",
        "16, at 1, 2, 3, 4, 5, 7, 8 rows a call",
        "int8: 0.001 + 0.05 |reference| + 0.1 of the output's range",
        "scores: largest 0.021, 99 % under 0.008, cosine 0.999900, same class 100.00%",
        "class: 97.00% of values equal (reported only)",
        "noise 0.1: accuracy of scores 0.9500, as they are 0.9680, 400 rows",
        "38.0 MiB added by loading and warming",
        "openvino int8: 1 row 0.11 ms, 8 rows 0.44 ms, error 0.021, metric 0.9680, 117.2 KiB, kept",
        "openvino fp16: [proof.golden] output 'scores'",
    ):
        assert wanted in told, wanted


@pytest.mark.parametrize("error", [5e-324, 1e-310, 1.0, sys.float_info.max])
def test_errors_of_any_size_are_plotted(error):
    manifest = manifest_of()
    record = record_of(manifest)
    outputs = tuple(
        msgspec.structs.replace(item, largest=error, p99=error) for item in record.proof.outputs
    )
    disturbed = tuple(msgspec.structs.replace(item, value=error) for item in record.proof.disturbed)
    buckets = tuple(msgspec.structs.replace(item, largest=error) for item in record.proof.buckets)
    proof = msgspec.structs.replace(
        record.proof, outputs=outputs, disturbed=disturbed, buckets=buckets
    )
    for plot in re.findall(
        r"<svg.*?</svg>", page(manifest, msgspec.structs.replace(record, proof=proof)), re.DOTALL
    ):
        assert "nan" not in plot
        ET.fromstring(plot)


def test_the_page_says_what_was_timed_and_what_decided():
    manifest = manifest_of()
    said = Page(page(manifest, record_of(manifest))).said
    assert "through recipe, engine and the steps after it" in said
    assert "The smallest product of the medians of 1 row and 8 rows counts as the fastest" in said
    assert "99 % under Accuracy Size Outcome" in said


def test_an_engine_made_anew_and_one_to_fall_back_on_are_told():
    manifest = manifest_of()
    spare = {"kind": "onnxruntime-portable", "stamp": {"os": "Linux"}}
    record = record_of(
        manifest,
        fallback=msgspec.structs.replace(record_of(manifest).engine, **spare),
        rebuilt=Rebuilt(at="2026-12-01T00:00:00Z", release="0.3.0", engine_sha256=DIGEST),
    )
    for told in (
        Page(page(manifest, record)).said,
        aligned(report_lines(manifest, record)),
        json.dumps(msgspec.to_builtins(report_values(manifest, record))),
    ):
        assert "2026-12-01T00:00:00Z" in told
        assert "onnxruntime-portable" in told
