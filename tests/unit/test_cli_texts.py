"""`lalert texts`: what people would read of an alert, in every language."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from lalert.cli import main
from lalert.texts.loading import shipped

EXAMPLE = str(Path(__file__).parents[2] / "examples/jp/evacuation.xml")


def shown(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["texts", *words])
    assert result.exit_code == code, result.output
    return result.output


def test_every_language_is_shown_also_those_that_are_off() -> None:
    output = shown(EXAMPLE, "--exercise")
    for tag in shipped()[0]:
        assert f"== {EXAMPLE} — {tag} (" in output
    assert "[EXERCISE] DIỄN TẬP: Mức cảnh giác 4: Lệnh sơ tán (避難指示)\n" in output
    assert "Khu vực: Hitoyoshi City (人吉市)\n" in output


def test_the_room_of_a_channel_is_that_of_the_options(tmp_path: Path) -> None:
    (tmp_path / "vi" / "email").mkdir(parents=True)
    (tmp_path / "vi" / "email" / "default.txt").write_text("Xin chào mọi người\nx", encoding="utf-8")
    (tmp_path / "vi" / "default.txt").write_text("{{ loop }}", encoding="utf-8")
    (tmp_path / "lalert.toml").write_text(f'[texts]\ntemplates = "{tmp_path}"', encoding="utf-8")
    general = EXAMPLE.replace("evacuation", "general")
    options = (
        general,
        "--config",
        str(tmp_path / "lalert.toml"),
        "--lang",
        "vi",
        "--title",
        "12",
        "--body",
        "40",
        "--measure",
        "full-width",
    )
    assert "(vi)\nXin chào…\n\n" in shown(*options, "--channel", "email")
    assert "— vi (ja) — vi/default.txt FAILED\n" in shown(*options, code=1)


def test_what_is_no_alert_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_text("<x/>", encoding="utf-8")
    assert "is no alert" in shown(str(tmp_path / "x.xml"), code=2)
    assert "cannot be read" in shown(str(tmp_path / "y.xml"), code=2)
