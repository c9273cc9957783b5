"""What a person reads in Prefect's pages: the variants, the gate's answer, and a picture."""

import base64

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from lastgood.flows.outcome import shown_if_possible
from lastgood.pipelines.compress import COMPRESS_RESULT, CompressResult
from lastgood.pipelines.compress import tabulate as tabulate_variants
from lastgood.pipelines.gate import VERDICT, GateVerdict
from lastgood.pipelines.gate import tabulate as tabulate_gate
from lastgood.pipelines.gate_report import draw_variants
from lastgood.pipelines.run import Run


def show_variants(run: Run) -> None:
    """Publish the table of variants."""
    compressed = run.read(COMPRESS_RESULT, CompressResult, step="compress")
    table = tabulate_variants(compressed)
    with shown_if_possible():
        create_table_artifact(table.to_json(), key=_key(run, "variants"), description=f"Variants of run {run.id}")


def show_gate(run: Run) -> None:
    """Publish the gate's answer with a picture, where the gate came that far."""
    if not (run.folder / VERDICT).is_file():
        return
    verdict = run.read(VERDICT, GateVerdict, step="gate")
    picture = draw_variants(run.read(COMPRESS_RESULT, CompressResult, step="compress"))
    encoded = base64.b64encode(picture.encode()).decode()
    markdown = f"{tabulate_gate(verdict).to_markdown()}\n![size against latency](data:image/svg+xml;base64,{encoded})\n"
    with shown_if_possible():
        create_markdown_artifact(markdown, key=_key(run, "gate"), description=f"Gate of run {run.id}")


def _key(run: Run, what: str) -> str:
    return f"{run.model.replace('_', '-')}-{what}"  # Prefect's keys have no underscores
