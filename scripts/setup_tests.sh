#!/bin/sh
# Install what the tests need beyond Python packages: Chromium and a Japanese font for the pages, xmlsec1 as a second opinion on signatures, redis-tools for
# a Redis that is too old and mosquitto as a broker (their servers are in there, and nothing is started by it). Where that cannot be done, fail and say what to type: a suite that silently
# leaves the pages out would look green.
set -eu
missing=""
if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null; then
    missing=" chromium"
fi
if ! command -v fc-list >/dev/null || [ -z "$(fc-list :lang=ja family)" ]; then
    missing="$missing fontconfig fonts-noto-cjk"
fi
if ! command -v xmlsec1 >/dev/null; then
    missing="$missing xmlsec1"
fi
if ! command -v redis-check-rdb >/dev/null; then
    missing="$missing redis-tools"
fi
if ! command -v mosquitto >/dev/null && [ ! -x /usr/sbin/mosquitto ]; then
    missing="$missing mosquitto"
fi
[ -n "$missing" ] || exit 0

sudo=""
[ "$(id -u)" -eq 0 ] || sudo="sudo -n"
if command -v apt-get >/dev/null && { [ -z "$sudo" ] || $sudo true 2>/dev/null; }; then
    echo "installing for the tests:$missing"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 - a list of words
    if $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null; then
        exit 0
    fi
fi
echo "The tests need what is not installed here:$missing" >&2
echo "  Debian and Ubuntu: apt-get install --no-install-recommends$missing" >&2
echo "  elsewhere: install Chromium, on the PATH as chromium, a Japanese font, xmlsec1, Redis, and mosquitto" >&2
echo "  without those tests: .venv/bin/python -m pytest -m 'not browser and not slow'" >&2
exit 1
