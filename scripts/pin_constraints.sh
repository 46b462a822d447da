#!/usr/bin/env bash
# Write constraints.txt: the newest release of every library, of every extra, that work
# together on each system and Python that pyproject.toml supports.
set -euo pipefail
cd "$(dirname "$0")/.."

{
    echo "# The releases that are tested together. Made by 'make constraints'."
    uv pip compile pyproject.toml --all-extras --universal --upgrade --quiet \
        --no-annotate --no-header --no-emit-index-url --no-emit-find-links
} >constraints.new
mv constraints.new constraints.txt
