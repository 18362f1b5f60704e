"""Prove that what is published works: build it, install the wheel into an empty environment elsewhere, run a hub and use it.

The hub runs from another folder with a new data directory, so that nothing of this checkout can help. One line for each step; the exit
status is 0 only if an alert went from an HTTP post to a stream and a feed, and the hub ended in good order.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPResponse
from pathlib import Path
from threading import Timer
from typing import NoReturn
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 30.0  # seconds for any one step of the running hub
SENDER = "smoke@example.lg.jp"
SHIPPED = (
    "lalert/py.typed",
    "lalert/schemas/cap-1.2.xsd",
    "lalert/geo/data/municipalities.csv",
    "lalert/web/static/vendor/VENDORED.json",
    "lalert_adapters/py.typed",
)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="lalert-smoke-") as name:
        folder = Path(name)
        wheel = build(folder / "dist")
        lalert = install(wheel, folder / "venv")
        use(lalert, folder)
    return 0


def step(text: str) -> None:
    print(f"smoke: {text}", flush=True)


def fail(text: str) -> NoReturn:
    sys.exit(f"smoke: FAILED: {text}")


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed; end the program where it fails."""
    done = subprocess.run(command, cwd=cwd, env=env, text=True, capture_output=True, check=False)
    if done.returncode:
        fail(f"{' '.join(map(str, command))} -> {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(dist: Path) -> Path:
    """Return the wheel, built from the sdist as an installer without wheels would."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, cwd=ROOT)
    [sdist], [wheel] = dist.glob("*.tar.gz"), dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    missing = [path for path in SHIPPED if path not in names]
    if missing:
        fail(f"{wheel.name} lacks {', '.join(missing)}")
    step(f"built {sdist.name} and {wheel.name} ({wheel.stat().st_size / 1e6:.1f} MB, {len(names)} files)")
    return wheel


def install(wheel: Path, venv: Path) -> Path:
    """Install the wheel as a user would, with the versions that the lock file names; return the `lalert` command.

    The lock is a constraint here and not a list to install, so a dependency that pyproject.toml forgot is found.
    """
    constraints = venv.parent / "constraints.txt"
    locked = (ROOT / "requirements" / "runtime.txt").read_text(encoding="utf-8")
    constraints.write_text(
        "\n".join(re.findall(r"^[\w.-]+==[^\s;]+", locked, re.MULTILINE)) + "\n", encoding="utf-8"
    )
    began = time.monotonic()
    run(sys.executable, "-m", "venv", venv, cwd=venv.parent)
    pip = (venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--constraint", constraints, wheel, cwd=venv.parent)
    step(f"installed into an empty environment in {time.monotonic() - began:.0f} s")
    return venv / "bin" / "lalert"


def use(lalert: Path, folder: Path) -> None:
    data, elsewhere = folder / "data", folder / "elsewhere"
    elsewhere.mkdir()
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LALERT_"))}
    with node(lalert, data, elsewhere, env) as url:
        urllib.request.urlopen(f"{url}/readyz", timeout=PATIENCE).close()  # raises if the node is not ready
        run(
            lalert,
            "org",
            "create",
            "smoke",
            "--codes",
            "all",
            "--senders",
            SENDER,
            "--data",
            data,
            cwd=elsewhere,
            env=env,
        )
        key = run(
            *(lalert, "key", "create", "--org", "smoke", "--role", "sender", "--data", data),
            cwd=elsewhere,
            env=env,
        ).strip()
        step("made an organisation and a sender's key through the running node")
        identifier = f"smoke-{os.getpid()}"
        with urllib.request.urlopen(f"{url}/v1/stream", timeout=PATIENCE) as stream:
            position, permanent = post(url, key, identifier)
            step(f"posted {identifier}: 201 at {position}")
            received = next(
                (event for event in events(stream) if event.get("identifier") == identifier), None
            )
            if received is None or received["position"] != position:
                fail(f"the stream ended, or gave another position: {received}")
            step("received it on /v1/stream")
        with urllib.request.urlopen(f"{url}/feeds/all.atom", timeout=PATIENCE) as feed:
            if permanent not in feed.read().decode():
                fail("/feeds/all.atom does not have the alert")
        step("found it in /feeds/all.atom")
    step("stopped by SIGTERM with status 0")


@contextmanager
def node(lalert: Path, data: Path, cwd: Path, env: dict[str, str]) -> Iterator[str]:
    """Run a hub on a free port; yield its address; SIGTERM it and insist on exit status 0."""
    log = cwd / "hub.log"
    with log.open("w") as stderr:
        command = (lalert, "serve", "--port", "0", "--data", data)
        process = subprocess.Popen(
            command, cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=stderr
        )
    try:
        assert process.stdout is not None
        impatient = Timer(PATIENCE, process.kill)
        impatient.start()
        ready = process.stdout.readline()
        impatient.cancel()
        match = re.fullmatch(r"lalert ready on (http://\S+)\n", ready)
        if match is None:
            fail(f"the hub said {ready!r}\n{log.read_text(encoding='utf-8')}")
        step(f"serving on {match[1]}")
        yield match[1]
        process.send_signal(signal.SIGTERM)
        if (status := process.wait(PATIENCE)) != 0:
            fail(f"after SIGTERM the hub ended with {status}\n{log.read_text(encoding='utf-8')}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def post(url: str, key: str, identifier: str) -> tuple[str, str]:
    """Post one alert; return its position and the path of its permanent page. urllib raises on every status that is no success."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/cap+xml"}
    request = urllib.request.Request(f"{url}/v1/alerts", alert(identifier).encode(), headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        if answer.status != 201:
            fail(f"the post was answered with {answer.status}")
        facts = json.load(answer)
    return facts["position"], urlsplit(facts["url"]).path


def events(stream: HTTPResponse) -> Iterator[dict[str, object]]:
    """Yield the data of `alert` events (WHATWG HTML, server-sent events), for at most PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    kind = ""
    for line in stream:
        field, _, value = line.decode().rstrip("\r\n").partition(": ")
        if field == "event":
            kind = value
        elif field == "data" and kind == "alert":
            yield json.loads(value)
        if time.monotonic() > deadline:
            return


def alert(identifier: str) -> str:
    """Return a CAP 1.2 document that is valid for the next hour."""
    now = datetime.now(UTC).astimezone().replace(microsecond=0)
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2">
  <identifier>{identifier}</identifier>
  <sender>{SENDER}</sender>
  <sent>{cap_time(now)}</sent>
  <status>Actual</status>
  <msgType>Alert</msgType>
  <scope>Public</scope>
  <info>
    <language>ja-JP</language>
    <category>Met</category>
    <event>洪水</event>
    <urgency>Immediate</urgency>
    <severity>Severe</severity>
    <certainty>Likely</certainty>
    <expires>{cap_time(now + timedelta(hours=1))}</expires>
    <headline>球磨川の水位が上がっています</headline>
    <area>
      <areaDesc>人吉市</areaDesc>
      <polygon>32.18,130.72 32.18,130.80 32.24,130.80 32.24,130.72 32.18,130.72</polygon>
    </area>
  </info>
</alert>
"""


def cap_time(moment: datetime) -> str:
    """Return a time as CAP 1.2 section 3.3.2 writes it: an offset always, UTC as -00:00."""
    text = moment.isoformat(timespec="seconds")
    return text.removesuffix("+00:00") + "-00:00" if text.endswith("+00:00") else text


if __name__ == "__main__":
    sys.exit(main())
