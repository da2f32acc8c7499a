#!/bin/sh
# Run the C core under the address, undefined-behaviour and leak sanitizers, then under the thread
# sanitizer. Needs a compiler that has them; CC chooses it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
src=$here/../../bptt_lab/core/kernels/src
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for kind in address,undefined thread; do
    echo "== -fsanitize=$kind"
    ${CC:-cc} -std=gnu11 -O1 -g -ffp-contract=off -pthread -Wall -Wextra -Werror \
        -fsanitize="$kind" -fno-sanitize-recover=all -fno-omit-frame-pointer \
        -I"$src" "$here/sanitize_main.c" "$src"/*.c -lm -o "$out/run"
    "$out/run"
done
