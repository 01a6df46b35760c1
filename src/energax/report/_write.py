"""`write_report`: the record as one HTML file."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from energax.io._aside import written_aside
from energax.report._figures import pictures
from energax.report._findings import findings
from energax.report._headline import headline
from energax.report._provenance import provenance
from energax.report._report import Report, check
from energax.report._tables import (
    annealing_rows,
    data_rows,
    energy_rows,
    last_logged,
    log_z_rows,
    sample_rows,
    training_rows,
)
from energax.report._wording import DASH, comparison, estimator, sentence


def write_report(report: Report, path: str | Path) -> Path:
    """Write a report as one HTML file that needs no other: styles and pictures are inside.

    The page is made in full before the file appears, and then renamed into place: a failure
    leaves what was there before.

    **Arguments:**

    - `path`: of the file; its folder must exist. A file already there is replaced.

    **Returns:** the path.

    **Raises:** `ValueError` if rows and evaluation do not belong together or the folder is missing
    or closed; `ImportError` naming the extra if jinja2 or matplotlib is missing; `OSError` if the
    disk fails.

    ```python
    import tempfile
    from pathlib import Path

    import energax as ex
    import numpy as np
    from energax.report import Report, write_report

    rows = np.random.default_rng(0).random((80, 16)) < 0.3
    train, test = rows[:60], rows[60:]
    run = ex.fit(
        ex.RBM.init(ex.key(0), n_visible=16, n_hidden=4),
        train,
        ex.PersistentContrastiveDivergence(),
        key=ex.key(1),
        steps=100,
    )
    report = Report(
        title="Sixteen pixels",
        description="Independent pixels, on with probability 0.3",
        model={"energy": "RBM"},
        settings={"steps": "100", "seed": "1"},
        history=run.history,
        fit_status=run.status,
        fit_message=run.message,
        fit_alarms=run.alarms,
        fit_seconds=run.history[-1]["seconds"],
        evaluation=ex.evaluate(
            run.energy, train, test, key=ex.key(2), n_temperatures=100, sample_steps=100
        ),
        energy=run.energy,
        train_rows=train,
        test_rows=test,
        image_shape=(4, 4),
        environment={"energax": ex.__version__, "seed": "2"},
        sample_steps=100,
    )
    write_report(report, Path(tempfile.mkdtemp()) / "report.html")
    ```
    """
    check(report)
    page = _render(report)
    path = Path(path)
    with written_aside(path) as file:
        file.write(page.encode("utf-8"))
    return path


def check_extra() -> None:
    """Raise `ImportError`, naming the extra, unless what a page is made with is installed."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(f'a report needs {error.name}: pip install "energax[report]"') from error


def _render(report: Report) -> str:
    check_extra()
    import jinja2

    folder = files("energax.report")
    names = ("template.html", "style.css")
    environment = jinja2.Environment(
        loader=jinja2.DictLoader({n: (folder / n).read_text(encoding="utf-8") for n in names}),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("template.html").render(**_content(report))


def _content(report: Report) -> dict[str, Any]:
    evaluation = report.evaluation
    settings = {k: "not set" if v == "None" else v for k, v in report.settings.items()}
    commands = list(report.commands)
    if not commands and "command" in settings:
        commands = [settings.pop("command")]
    return {
        "title": report.title,
        "description": report.description,
        "headline": headline(report),
        "findings": findings(report),
        "pictures": pictures(report),
        "model": [(name[:1].upper() + name[1:], value) for name, value in report.model.items()],
        "data": data_rows(report),
        "log_z": log_z_rows(report),
        "estimator": estimator(evaluation.log_partition),
        "comparison": comparison(evaluation.log_partition, evaluation.exact_log_partition),
        "annealing": annealing_rows(report),
        "training": training_rows(report),
        "last_logged": last_logged(report),
        "samples": sample_rows(report),
        "samples_summary": sentence(evaluation.samples.summary),
        "energies": energy_rows(report),
        "provenance": provenance(report),
        "dash": DASH,
        "commands": commands,
        "settings": list(settings.items()),
        "environment": list(report.environment.items()),
        "date": report.environment.get("date", ""),
    }
