"""The gate's answer for machines (JUnit) and for people (one HTML page that needs nothing else)."""

from pathlib import Path
from xml.etree import ElementTree as ET

from lastgood.pipelines.compress import CompressResult
from lastgood.pipelines.compress import tabulate as tabulate_variants
from lastgood.pipelines.conditions import Measurements
from lastgood.pipelines.data import Array
from lastgood.pipelines.gate import GateVerdict
from lastgood.pipelines.gate import tabulate as tabulate_gate
from lastgood.pipelines.run import Run
from lastgood.render import draw_bars, draw_matrix, draw_points, open_templates


def write_junit(verdict: GateVerdict, run: Run, file: Path) -> None:
    """Write one test case per condition, as CI servers read it; no data is an error where it is required, else skipped."""
    conditions = verdict.conditions
    suite = ET.Element(
        "testsuite",
        name=f"lastgood gate {run.model}",
        tests=str(len(conditions)),
        failures=str(sum(own.required and own.status == "failed" for own in conditions)),
        errors=str(sum(own.required and own.status == "no data" for own in conditions)),
        skipped=str(sum(not own.required and own.status != "passed" for own in conditions)),
    )
    for own in conditions:
        case = ET.SubElement(suite, "testcase", classname=f"gate.{run.model}", name=own.name)
        if own.status != "passed":
            tag = "skipped" if not own.required else "failure" if own.status == "failed" else "error"
            ET.SubElement(case, tag, message=own.sentence)
        ET.SubElement(case, "system-out").text = own.sentence
    ET.indent(suite)
    file.write_bytes(ET.tostring(suite, encoding="utf-8", xml_declaration=True))


def write_summary(verdict: GateVerdict, run: Run, compressed: CompressResult, file: Path) -> None:
    """Write the answer and what was tried as Markdown, short enough for a comment on a pull request."""
    facts = run.facts
    beside = f"beside {verdict.live}" if verdict.live else "the first release"
    commit = f", commit {facts.commit[:12]}{' with changes' if facts.dirty else ''}" if facts.commit else ""
    head = f"### lastgood: {run.model}, {beside}\n\nRun {run.id}{commit}, seed {facts.seed}, recipe {compressed.chosen}.\n"
    file.write_text("\n".join((head, tabulate_gate(verdict).to_markdown(), tabulate_variants(compressed).to_markdown())), "utf-8")


def draw_variants(compressed: CompressResult) -> str:
    """Draw size against latency of every variant that has a file, the chosen one marked, as SVG."""
    points = {
        own.recipe: (own.bytes / 1024, own.p95_seconds * 1e6)
        for own in compressed.variants
        if own.bytes is not None and own.p95_seconds is not None
    }
    title = "Variants: size against latency"
    return draw_points(title, points, x_label="size, KiB", y_label="p95 of one row, µs", marked=compressed.chosen)


def write_report(verdict: GateVerdict, run: Run, compressed: CompressResult, measured: Measurements, confusion: Array, file: Path) -> None:
    """Write the report; every text in it is escaped."""
    import markupsafe

    accuracies = {name: score.accuracy * 100 for name, score in measured.sets.items() if score.rows}
    slices = {f"{name} ({score.rows})": score.accuracy * 100 for name, score in measured.slices.items() if score.rows}
    floor = run.gate_settings.accuracy_floor
    charts = [draw_bars("Accuracy by evaluation set", accuracies, label="percent right", floor=None if floor is None else floor * 100)]
    if slices:
        charts.append(draw_bars("Accuracy by slice (rows)", slices, label="percent right"))
    charts.append(draw_variants(compressed))
    charts.append(draw_matrix("What was answered for what", confusion.tolist(), x_label="answered", y_label="expected"))
    page = (
        open_templates("lastgood.pipelines")
        .get_template("gate.html")
        .render(
            verdict=verdict,
            run=run.facts,
            variants=markupsafe.Markup(tabulate_variants(compressed).to_html()),  # noqa: S704 - to_html escapes every cell
            charts=[markupsafe.Markup(chart) for chart in charts],  # noqa: S704 - matplotlib escapes the texts it draws
        )
    )
    file.write_text(page, "utf-8")
