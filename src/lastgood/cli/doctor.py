"""``lastgood doctor``."""

from lastgood.cli.flags import Json


def doctor(*, json: Json = False) -> int:
    """
    Look for what would fail later: machine, ports, pipelines, gateway, registry, Prefect's pool, worker and deployments.

    Exit code 7 when there is a problem, 0 with warnings only. Example: lastgood doctor

    Args:
        json: Write JSON.
    """
    from lastgood.cli.output import note, print_json, print_table
    from lastgood.doctor.machine import examine_machine
    from lastgood.doctor.project import examine_pipelines, examine_triggers
    from lastgood.pipelines.health import examine_serving, tabulate
    from lastgood.settings import load_settings

    settings = load_settings()
    findings = [*examine_machine(settings), *examine_pipelines(settings), *examine_serving(settings), *examine_triggers(settings)]
    problems = sum(own.status == "problem" for own in findings)
    if json:
        print_json({"problems": problems, "findings": findings})
    else:
        table = tabulate(findings)
        print_table(table.title, table.columns, table.rows)
        warnings = sum(own.status == "warning" for own in findings)
        note(f"problems: {problems}, warnings: {warnings}, looked at: {len(findings)}")
    return 7 if problems else 0
