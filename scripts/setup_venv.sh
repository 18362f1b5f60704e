#!/bin/sh
# Make the virtual environment: setup_venv.sh FOLDER [PYTHON]. Says what to install where Python is too old or Debian has split venv off.
set -eu
venv=$1
python=${2:-}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

if [ -z "$python" ]; then
    for candidate in python3 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && new_enough "$candidate"; then
            python=$candidate
            break
        fi
    done
fi
if [ -z "$python" ] || ! new_enough "$python"; then
    found=$("${python:-python3}" --version 2>/dev/null || echo "no such Python")
    echo "lalert needs Python 3.11 or later; ${python:-python3} is: $found" >&2
    echo "Debian 12, Ubuntu 24.04 and later: apt-get install python3 python3-venv; or choose one: make PYTHON=/path/to/python3.12" >&2
    exit 1
fi
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    echo "$python lacks the venv module. On Debian and Ubuntu: apt-get install $package" >&2
    exit 1
fi
# An environment that is there and runs is kept; one whose Python has gone away or is too old is made anew.
if ! { [ -x "$venv/bin/python" ] && new_enough "$venv/bin/python"; }; then
    echo "making $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
fi
