"""A node makes its texts with the languages and templates of its configuration, from the places that its gazetteer knows, and counts what fails."""

from __future__ import annotations

from pathlib import Path

from lalert.config import Settings, Texts
from lalert.hub import AdapterHub
from lalert.testing import HITOYOSHI, make_alert
from lalert.testing.node import running_node


async def test_texts_are_made_as_the_configuration_says(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    (folder / "vi").mkdir(parents=True)
    (folder / "vi" / "cancel.txt").write_text("{% if level %}x{% endif %}", encoding="utf-8")
    settings = Settings(texts=Texts(("vi",), str(folder)))
    order = make_alert(codes=[HITOYOSHI], status="Exercise")
    cancel = make_alert(
        codes=[HITOYOSHI], status="Exercise", msg_type="Cancel", references=[order], level=None
    )
    async with running_node(tmp_path / "data", settings) as node:
        view = AdapterHub(node.node.hub, "mail", None, node.http, "email")
        texts = []
        for alert in (order, cancel):
            assert (await node.post(alert.raw))[0] == 201
            texts.append(view.text(await node.node.hub.find(alert.id, None), "vi"))
        assert texts[0].title == "[EXERCISE] DIỄN TẬP: Mức cảnh giác 4: Lệnh sơ tán (避難指示)"
        assert "Khu vực: Hitoyoshi City (人吉市)\n" in texts[0].body
        assert texts[1].title == "【訓練】【取消】人吉市に避難指示を発令しました"
        assert texts[1].template_failed == "vi/cancel.txt"
        async with node.http.get(f"{node.url}/metrics") as metrics:
            assert "lalert_texts_template_failures 1.0\n" in await metrics.text()
