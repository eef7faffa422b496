#!/usr/bin/env bash
# Tests that need a GPU, then the packed backend beside sentence-transformers: benchmarks/speed/gpu.sh OUT.json [options of gpu.py]
set -u -o pipefail
cd "$(dirname "$0")/../.." || exit
out=${1:?"usage: benchmarks/speed/gpu.sh OUT.json [options of gpu.py]"}
shift
export PYTHONPATH="$PWD:$PWD/tests${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
unset TOKENIZERS_PARALLELISM
python=${PYTHON:-python3}
status=0
if [ "${SKIP_TESTS:-0}" = 0 ] && "$python" -c 'import pytest' 2>/dev/null; then
  # Without the project's configuration, which names plugins that may not be here.
  timeout 300 "$python" -m pytest -q -c /dev/null --rootdir "$PWD" -p no:cacheprovider -m gpu tests/gpu || status=$?
fi
"$python" -m benchmarks.speed.gpu --out "$out" "$@" || status=$?
exit "$status"
