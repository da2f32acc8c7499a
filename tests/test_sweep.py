from __future__ import annotations

from bptt_lab.records import write_json
from bptt_lab.sweep import print_table


def test_table_names_what_differs_and_every_failure(tmp_path, capsys):
    for number, k in enumerate((1, 8)):
        folder = tmp_path / f"{number}_gradient.k={k}"
        folder.mkdir()
        papers = {
            "status": "completed",
            "overrides": ["gradient=truncated", f"gradient.k={k}"],
            "metrics": {"val/loss": 1.0, "test/loss": 0.25 * k, "test/accuracy": 0.5},
            "seconds": 3.14159,
        }
        write_json(folder / "summary.json", papers)
    (tmp_path / "2_gradient.k=9").mkdir()
    write_json(
        tmp_path / "2_gradient.k=9" / "summary.json",
        {"status": "failed", "reason": "ValueError: no", "overrides": ["gradient.k=9"]},
    )
    (tmp_path / "3_gradient.k=10").mkdir()
    (tmp_path / "multirun.yaml").touch()

    assert print_table(tmp_path) == 2
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["job", "gradient", "gradient.k", "test/loss", "test/accuracy", "seconds",
                       "status"]  # fmt: skip
    assert rows[2] == ["0", "truncated", "1", "0.2500", "0.5000", "3.1", "completed"]
    assert rows[3] == ["1", "truncated", "8", "2.0000", "0.5000", "3.1", "completed"]
    assert "failed: 2_gradient.k=9: ValueError: no" in out
    assert "lost: 3_gradient.k=10: the job left no summary" in out
    assert "2 of 4 jobs completed" in out
