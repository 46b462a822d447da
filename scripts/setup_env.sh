#!/usr/bin/env bash
# Make the environment of one make target and install this checkout into it, every
# library at the release that constraints.txt names.
#
#   scripts/setup_env.sh demo|test|docs|bench
#
# VENV names its folder (.venv), PYTHON the interpreter (the first 3.11 or later on the path).
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
    demo) extras=all ;;
    test) extras=all,hub,lint,test ;;
    docs) extras=all,docs ;;
    bench) extras=all,bench ;;
    *) echo "usage: $0 demo|test|docs|bench" >&2; exit 2 ;;
esac
venv=${VENV:-.venv}

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python python3.13 python3.12 python3.11 python3.14; do
        if [ -n "$candidate" ] && "$candidate" -c \
            'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
}

environment_python() {
    if [ -x "$venv/Scripts/python.exe" ]; then
        echo "$venv/Scripts/python.exe"
    else
        echo "$venv/bin/python"
    fi
}

# Debian splits venv from its python; without it `python3 -m venv` fails half way.
make_venv_with() {
    if ! "$1" -c 'import ensurepip' >/dev/null 2>&1; then
        local package
        package=$("$1" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')
        if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
            echo "Installing the missing system package $package"
            apt-get update -qq
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package"
        else
            echo "This Python cannot make environments. Type: sudo apt-get install $package" >&2
            exit 1
        fi
    fi
    "$1" -m venv "$venv"
}

uv=""
if uv --version >/dev/null 2>&1; then
    uv=uv
fi

if [ ! -e "$(environment_python)" ]; then
    python=$(find_python)
    if [ -n "$uv" ]; then
        uv venv --quiet --python "${python:-3.12}" "$venv"
    elif [ -n "$python" ]; then
        make_venv_with "$python"
    else
        echo "Python 3.11 or later was not found: install it, or name it with PYTHON=..." >&2
        exit 1
    fi
fi
python=$(environment_python)

if [ -z "$uv" ] && "$python" -m pip install --quiet --constraint constraints.txt uv; then
    uv="$python -m uv"
fi

echo "Installing napari-cxr3d[$extras] into $venv (PyTorch included: some GB the first time)"
if [ -n "$uv" ]; then
    $uv pip install --quiet --python "$python" --constraint constraints.txt -e ".[$extras]"
else
    "$python" -m pip install --quiet --constraint constraints.txt -e ".[$extras]"
fi
