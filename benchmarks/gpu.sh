#!/usr/bin/env bash
# Every open GPU measurement in under eight minutes on one H100, and one table at the end.
#
#     bash benchmarks/gpu.sh                  # with .gpu/ (make gpu-pack) its wheels and images are used
#     SIZE=tiny bash benchmarks/gpu.sh        # whether all of it runs, on two CPU cores
#     ONLY=LLaVA bash benchmarks/gpu.sh       # parts whose name holds this
#
# A part has a limit in seconds; one that fails or is stopped leaves a line in the table, and the
# next one starts. Rows are written as they are measured, so a table of what there is can always be
# had: python benchmarks/rows.py $OUT/rows.jsonl. Nothing here imports Hydra; only the side that
# measures open_clip imports open_clip.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
SIZE=${SIZE:-full}
OUT=${OUT:-runs/gpu}
BUDGET=${BUDGET:-465}
ONLY=${ONLY:-}
if [ "$SIZE" != tiny ] && [ -f .gpu/setup.sh ]; then
    # shellcheck disable=SC1091
    source .gpu/setup.sh || exit 1
fi
PY=${PYTHON:-python3}
export PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$OUT"
ROWS=$OUT/rows.jsonl
: > "$ROWS"
SECONDS=0
failed=0

# part NAME LIMIT COMMAND...: runs it for LIMIT seconds at most, and never beyond the budget.
part() {
    local name=$1 limit=$2 left=$((BUDGET - SECONDS)) status begun=$SECONDS
    shift 2
    [[ $name == *"$ONLY"* ]] || return 0
    [ "$left" -lt "$limit" ] && limit=$left
    echo "== $name (at $SECONDS s, limit $limit s)"
    if [ "$limit" -lt 5 ]; then
        status="no time left"
    else
        timeout -k 5 "$limit" "$PY" "$@" --rows "$ROWS"
        status=$?
        [ "$status" = 0 ] && echo "-- $name: $((SECONDS - begun)) s" && return 0
        [ "$status" = 124 ] && status="stopped after $limit s" || status="failed ($status)"
    fi
    echo "-- $name: $status"
    failed=$((failed + 1))
    "$PY" -c 'import json, sys; print(json.dumps({"part": sys.argv[1], "note": sys.argv[2]}))' \
        "$name" "$status" >> "$ROWS"
}

b=benchmarks
if [ "$SIZE" = tiny ]; then
    cpu="--device cpu --threads 1"
    part "contrastive tiny" 600 $b/contrastive.py --arch tiny --batch 4 --rounds 1 --precision fp32 $cpu
    part "RS-CapRet" 600 $b/rscapret.py --size tiny --batch 4 --rounds 1 --captions 2 $cpu
    part "LLaVA" 600 $b/captioner.py --size tiny --batch 4 --rounds 1 --only mixture $cpu
    part "DeltaVLM" 600 $b/deltavlm.py --size tiny --batch 2 --rounds 1 $cpu
    part "GeoPix" 600 $b/pixel.py --size tiny --rounds 1 $cpu
    part "RS-MoE" 600 $b/moe.py --size tiny --words 8 --rounds 1 $cpu
    part "CLIP from scratch" 600 $b/scratch.py --arch tiny --seconds 2 --batch 16 --images 32 \
        --workers 0 --device cpu
else
    gpu="--device cuda"
    # The two archs after the first find most of what inductor compiles in its cache.
    fast="--compile --recompute-mlp --rounds 6 $gpu"
    part "contrastive B/32" 110 $b/contrastive.py --arch ViT-B-32 --batch 2048 $fast
    part "RS-CapRet" 55 $b/rscapret.py --size full --batch 96 --rounds 5 --captions 0 $gpu
    part "LLaVA" 70 $b/captioner.py --size full --batch 4 --rounds 4 --only mixture $gpu
    part "DeltaVLM" 65 $b/deltavlm.py --size full --batch 12 --rounds 4 $gpu
    part "GeoPix" 60 $b/pixel.py --size full --rounds 2 $gpu
    part "RS-MoE" 60 $b/moe.py --size 1b --images 4 --words 48 --rounds 3 $gpu
    part "contrastive B/16" 75 $b/contrastive.py --arch ViT-B-16 --batch 512 $fast
    part "contrastive L/14" 75 $b/contrastive.py --arch ViT-L-14 --batch 128 $fast
    # It takes what is left, two minutes at most, less 25 s to read the images and to measure.
    left=$((BUDGET - SECONDS - 25))
    part "CLIP from scratch" 150 $b/scratch.py --seconds $((left < 120 ? left : 120)) $gpu
fi
# One more measurement is one more line: part NAME LIMIT benchmarks/x.py ...; x.py takes --rows FILE
# and leaves what it found with rows.record(file, part=..., side=..., seconds=..., ...).

echo
echo "$SIZE, $SECONDS s, $(date -u +%F)"
"$PY" -c 'import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU", "torch", torch.__version__)'
"$PY" $b/rows.py "$ROWS"
exit $((failed > 0))
