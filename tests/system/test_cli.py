"""The command line as a person at a shell meets it: real processes, real exit codes, one line on standard output."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog

from lalert.cap import read_certificate
from lalert.cli.serving import configure_logging
from lalert.testing import make_cap
from tests.signing_kit import authority, signer

ROOT = Path(__file__).parents[2]
LALERT = [sys.executable, "-m", "lalert"]
SENDER = "bousai@hitoyoshi.example"


def lalert(
    *words: str, stdin: bytes = b"", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*LALERT, *words],
        input=stdin,
        capture_output=True,
        timeout=50,
        check=False,
        env={**os.environ, **(env or {})},
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@contextmanager
def serving(data: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `lalert serve` on a free port; gives the process and its address, and ends it by its own id."""
    process = subprocess.Popen(
        [*LALERT, "serve", "--port", "0", "--data", str(data), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("lalert ready on http://127.0.0.1:"), (
            line,
            process.stderr and process.stderr.read(),
        )
        yield process, line.split()[-1]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def test_a_node_says_one_line_makes_keys_takes_an_alert_and_stops_cleanly(tmp_path: Path) -> None:
    data = tmp_path / "data"
    alert = tmp_path / "alert.xml"
    alert.write_bytes(make_cap(sender=SENDER, identifier="by-hand"))
    with serving(data) as (process, url):
        made = lalert(
            "org",
            "create",
            "hitoyoshi",
            "--codes",
            "43203",
            "--senders",
            "*@hitoyoshi.example",
            "--data",
            str(data),
        )
        assert made.returncode == 0, made.stderr
        key = lalert("key", "create", "--org", "hitoyoshi", "--role", "sender", "--data", str(data))
        assert key.returncode == 0, key.stderr
        assert key.stdout.strip().startswith("lk_")
        assert len(key.stdout.split()) == 1

        sent = lalert("submit", str(alert), "--hub", url, env={"LALERT_KEY": key.stdout.strip()})
        assert sent.returncode == 0, sent.stderr
        position = sent.stdout.strip()
        with urllib.request.urlopen(f"{url}/v1/alerts/{position}", timeout=10) as response:
            assert response.read() == alert.read_bytes()

        tail = lalert("tail", "--hub", url, "--after", f"{position.split('-')[0]}-0", "--count", "1")
        assert json.loads(tail.stdout)["identifier"] == "by-hand"
        chosen = [
            "--point",
            "32.21,130.76",
            "--min-level",
            "4",
            "--category",
            "Safety",
            "--event",
            "避難指示",
        ]
        beginning = f"{position.split('-')[0]}-0"
        twice = lalert("tail", "--hub", url, "--hub", url, "--after", beginning, *chosen, "--count", "1")
        assert json.loads(twice.stdout)["identifier"] == "by-hand", twice.stderr
        wrong = lalert("tail", "--hub", url, "--category", "Wheather")
        assert (wrong.returncode, wrong.stdout) == (1, "")
        assert "category: 'Wheather' is unknown" in wrong.stderr

        process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        assert process.wait(30) == 0
        assert time.monotonic() - begun < 30
        assert process.stdout is not None
        assert process.stdout.read() == ""
    assert not (data / "admin.sock").exists()


def test_administration_works_without_a_node_and_is_refused_a_second_store(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    assert (
        lalert(
            "org", "create", "town", "--codes", "435015,435104", "--senders", "a@b", "--data", data
        ).returncode
        == 0
    )
    key = lalert("key", "create", "--org", "town", "--role", "receiver", "--data", data).stdout.strip()
    listed = lalert("key", "list", "--data", data)
    assert "receiver" in listed.stdout
    assert key not in listed.stdout
    assert lalert("key", "revoke", key, "--data", data).returncode == 0
    assert lalert("org", "list", "--data", data).stdout.split()[:2] == ["org", "name"]

    again = lalert("org", "create", "town", "--codes", "43203", "--senders", "a@b", "--data", data)
    assert (again.returncode, again.stdout) == (1, "")
    assert "town" in again.stderr
    wrong = lalert("org", "create", "other", "--codes", "432033", "--senders", "a@b", "--data", data)
    assert wrong.returncode == 1
    assert "is 2, not 3" in wrong.stderr


def test_a_policy_is_set_and_shown_with_and_without_a_node(tmp_path: Path) -> None:
    data, pem = tmp_path / "data", tmp_path / "town.pem"
    pem.write_text(signer().certificate)
    fingerprint = read_certificate(signer().certificate).fingerprint
    town = ["org", "create", "town", "--codes", "43", "--senders", "*@town.example", "--data", str(data)]
    made = lalert(*town, "--signatures", "verify", "--certificate", str(pem))
    assert made.returncode == 0, made.stderr
    assert "tolerant none, signatures verify" in made.stdout
    assert fingerprint in made.stdout
    assert "authority" not in made.stdout
    with serving(data):
        changed = lalert("org", "set", "town", "--tolerant", "*@town.example", "--data", str(data))
        assert changed.returncode == 0, changed.stderr
        assert "tolerant *@town.example, signatures verify" in changed.stdout
        listed = lalert("org", "list", "--data", str(data)).stdout
        refused = lalert("org", "set", "town", "--no-certificates", "--data", str(data))
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "verify needs the certificate" in refused.stderr
    assert f"verify      {fingerprint[:16]}(2030-01-01)" in listed
    pem.write_text(authority().certificate)
    assert (
        "an authority: whomever it issues to may sign"
        in lalert("org", "set", "town", "--certificate", str(pem), "--data", str(data)).stdout
    )
    cleared = lalert(
        "org",
        "set",
        "town",
        "--tolerant",
        "",
        "--signatures",
        "ignore",
        "--no-certificates",
        "--data",
        str(data),
    )
    assert "tolerant none, signatures ignore" in cleared.stdout
    assert fingerprint not in cleared.stdout


def test_a_second_node_on_the_same_data_is_refused_with_the_reason(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data) as (process, _):
        second = lalert("serve", "--port", "0", "--data", str(data))
        assert second.returncode == 1
        assert str(process.pid) in second.stderr
        assert "Traceback" not in second.stderr


def test_an_address_that_is_taken_is_named_without_a_traceback(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = lalert("serve", "--port", port, "--data", str(tmp_path / "data"))
    assert (done.returncode, done.stdout) == (2, "")
    assert port in done.stderr
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_traceback_at_a_terminal_shows_no_local_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # At a terminal structlog would print every variable of every frame: keys, tokens, alerts.
    before = structlog.get_config()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    try:
        configure_logging()
        planted = "lk_planted"
        try:
            raise ValueError("wrong")
        except ValueError:
            structlog.get_logger().exception("request failed")
        said = capsys.readouterr().err
    finally:
        structlog.configure(**before)
    assert "ValueError" in said
    assert planted not in said


def test_an_empty_hub_hands_out_one_link_by_a_private_file(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data) as (process, url):
        link = data / "setup-link"
        assert link.stat().st_mode & 0o777 == 0o600
        assert (data / "admin.sock").stat().st_mode & 0o777 == 0o600
        assert data.stat().st_mode & 0o777 == 0o700
        assert link.read_text().startswith(f"{url}/setup?token=")
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        assert process.stderr is not None
        said = process.stderr.read()
    assert str(link) in said
    assert link.read_text().strip() not in said if link.exists() else True


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["key", "create", "--org", "nobody", "--role", "sender"], 1, "nobody"),
        (["key", "create", "--org", "x", "--role", "king"], 2, "king"),
        (["key", "create", "--org", "x", "--role", "sender", "--expires", "soon"], 2, "soon"),
        (["key", "create", "--org", "x", "--role", "sender", "--station", "g"], 1, "only a sensor key"),
        (["org", "set", "nobody", "--tolerant", "*"], 1, "nobody"),
        (["org", "set", "x"], 2, "--tolerant"),
        (["org", "set", "x", "--certificate", "missing.pem"], 2, "missing.pem"),
        (["gazetteer", "show", "432033"], 1, "is 2, not 3"),
        (["gazetteer", "show", "439999"], 1, "43999"),
        (["serve", "--port", "70000"], 2, "70000"),
        (["serve", "--config", "missing.toml"], 2, "missing.toml"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_a_mistake_is_answered_in_one_line_without_a_traceback(
    tmp_path: Path, words: Sequence[str], status: int, said: str
) -> None:
    data = [] if words[0] == "nonsense" else ["--data", str(tmp_path / "data")]
    done = lalert(*words, *data)
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_configuration_is_checked_whole(tmp_path: Path) -> None:
    file = tmp_path / "lalert.toml"
    file.write_text("[hub]\nprot = 1\n[adapters.webhook]\ntimout = 3\n", encoding="utf-8")
    done = lalert("check-config", str(file))
    assert done.returncode == 2
    assert "hub.prot: unknown key, did you mean port?" in done.stderr
    file.write_text("[hub]\nport = 8181\n", encoding="utf-8")
    good = lalert("check-config", str(file))
    assert good.returncode == 0
    assert "webhook" in good.stdout


def test_a_place_is_shown_with_its_names_and_the_adapters_are_listed() -> None:
    shown = lalert("gazetteer", "show", "43203").stdout
    for word in ("432032", "人吉市", "ひとよしし", "Hitoyoshi"):
        assert word in shown
    listed = lalert("adapters").stdout
    assert "webhook" in listed
    assert "syndication" in listed


def test_validate_speaks_text_and_json_and_exits_by_the_verdict(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.xml", tmp_path / "bad.xml"
    good.write_bytes(make_cap())
    bad.write_bytes(make_cap().replace(b"<status>Actual</status>", b"<status>Real</status>"))
    assert lalert("validate", str(good)).returncode == 0
    done = lalert("validate", "--format", "json", str(good), str(bad), "-", stdin=b"<alert")
    assert done.returncode == 1
    first, second, third = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["file"], first["valid"], first["version"]) == (str(good), True, "1.2")
    assert second["valid"] is False
    assert {"rule", "severity", "path", "line", "message", "help"} <= set(second["problems"][0])
    assert (third["file"], third["valid"], third["version"]) == ("-", False, None)
    japanese = lalert("validate", "--lang", "ja", str(bad))
    assert "status" in japanese.stdout
    for line in japanese.stdout.splitlines()[1:]:
        assert any("\u3040" <= letter <= "\u30ff" for letter in line), line
    assert lalert("validate", str(tmp_path / "missing.xml")).returncode == 2


def test_validate_judges_all_that_can_be_read_and_then_says_that_something_could_not(tmp_path: Path) -> None:
    good = tmp_path / "good.xml"
    good.write_bytes(make_cap())
    done = lalert("validate", "--format", "json", str(tmp_path), str(good), str(tmp_path / "missing.xml"))
    assert done.returncode == 2
    assert json.loads(done.stdout)["valid"] is True
    assert len(done.stderr.splitlines()) == 2


def test_validate_tells_in_either_language_what_is_made_of_an_error_of_a_tolerated_sender(
    tmp_path: Path,
) -> None:
    file = tmp_path / "open.xml"
    raw = (ROOT / "tests" / "data" / "cap" / "bad" / "polygon-open.xml").read_bytes()
    file.write_bytes(raw)
    assert "where the sender is tolerated: the ring was closed" in lalert("validate", str(file)).stdout
    japanese = lalert("validate", "--lang", "ja", str(file)).stdout
    assert "誤りのある文書です" in japanese
    assert "行目: /alert/info[1]/area[1]/polygon[1]: " in japanese
    assert "許容された送信者の場合: 始点に戻る線を補って閉じました" in japanese
    said = json.loads(lalert("validate", "--lang", "ja", "--format", "json", str(file)).stdout)
    assert said["problems"][0]["repair"] == "始点に戻る線を補って閉じました"


def test_validate_does_not_name_a_size_that_it_has_not_read(tmp_path: Path) -> None:
    file = tmp_path / "huge.xml"
    file.write_bytes(b" " * 3_000_000)
    said = json.loads(lalert("validate", "--format", "json", str(file)).stdout)
    assert said["problems"][0]["message"] == "the document is larger than the 1048576 bytes that are read"


def test_validate_judges_by_a_profile() -> None:
    examples = sorted(map(str, (ROOT / "examples" / "jp").glob("*.xml")))
    good = lalert("validate", "--profile", "jp", *examples)
    assert (good.returncode, len(good.stdout.splitlines())) == (0, len(examples)), good.stdout
    wrong = Path(examples[0]).read_text(encoding="utf-8").replace(">432032<", ">432033<").encode()
    assert lalert("validate", "-", stdin=wrong).returncode == 0
    done = lalert("validate", "--profile", "jp", "--format", "json", "--lang", "ja", "-", stdin=wrong)
    assert done.returncode == 1
    said = json.loads(done.stdout)
    (problem,) = said["problems"]
    assert (said["valid"], problem["rule"], problem["severity"]) == (False, "JP-CODE-CHECK-DIGIT", "error")
    assert "432033" in wrong.decode().splitlines()[problem["line"] - 1]
    assert "正しければ432032" in problem["message"]
    text = lalert("validate", "--profile", "jp", "-", stdin=wrong)
    assert "INVALID" in text.stdout
    assert "432032 would be right [JP-CODE-CHECK-DIGIT]" in text.stdout
    unknown = lalert("validate", "--profile", "fr", "-", stdin=wrong)
    assert (unknown.returncode, "'jp'" in unknown.stderr) == (2, True)


def test_validate_knows_the_geocodes_that_the_node_knows(tmp_path: Path) -> None:
    table = tmp_path / "codes.csv"
    table.write_text("scheme,value,codes\nSTATION,7,432032\n", encoding="utf-8")
    node = tmp_path / "lalert.toml"
    node.write_text(f"[gazetteer]\ngeocodes = {str(table)!r}\n", encoding="utf-8")
    alert = (ROOT / "examples" / "jp" / "evacuation.xml").read_text(encoding="utf-8")
    alert = alert.replace("JISX0402", "STATION").replace(">432032<", ">7<")
    foreign = re.sub(r"<polygon>.*?</polygon>", "", alert).encode()
    of_table = ("validate", "--profile", "jp", "--config", str(node), "-")
    assert "JP-AREA" in lalert("validate", "--profile", "jp", "-", stdin=foreign).stdout
    assert "JP-AREA" not in lalert(*of_table, stdin=foreign).stdout
    table.write_text("scheme,value,codes\nSTATION,7,439999\n", encoding="utf-8")
    assert "439999" in lalert(*of_table, stdin=foreign).stderr


def test_the_demo_plays_to_the_end_and_everything_arrives() -> None:
    done = lalert("demo", "--once", "--speed", "40", "--port", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MISSING" not in done.stdout
    for word in ("避難指示", "【訓練】", "解除", "/signage/", "lk_"):
        assert word in done.stdout
