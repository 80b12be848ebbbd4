#!/usr/bin/env bash
# demo.sh BUILD: a server on the embedded models, shown at work. ./run demo calls
# it. Everything it starts is gone when it ends, however it ends; what it drew
# stays in BUILD/demo.
set -euo pipefail
readonly bin=$1
temp=$(mktemp -d)
server=
other=

cleanup() {
  local status=$?
  trap - EXIT INT TERM
  for process in $other $server; do kill "$process" 2>/dev/null || true; done
  for process in $other $server; do wait "$process" 2>/dev/null || true; done
  rm -rf "$temp"
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
# show WORD...: a command as one would type it, then what it does.
show() {
  local word line='$ ounce'
  for word; do
    if [[ $word == *[!a-zA-Z0-9_.:=/-]* ]]; then word="'$word'"; fi
    line+=" $word"
  done
  echo "$line"
  "$bin/ounce" "$@"
}

# The address of a listener, from what the server writes when it serves.
address() { sed -n "s/.*\"$1\": \"\([^\"]*\)\".*/\1/p" "$temp/ports.json"; }

memory_metrics() {
  curl -fsS "http://$metrics/metrics" |
    grep -E '^ounce_(model_.*bytes|model_saved_ratio|process_resident_bytes)' |
    sed 's/^/  /'
}

# Generates one completion after another until told to stop; leaves a line of
# JSON per response.
keep_generating() {
  local stop=
  trap 'stop=1' TERM
  while [[ -z $stop ]]; do
    "$bin/ounce" generate code 'class Stack:' --max_new_tokens 200 --json \
      >>"$temp/other.json" 2>>"$temp/other.err" && echo done >>"$temp/other.done" ||
      echo failed >>"$temp/other.failed"
  done
}
lines() { if [[ -e $1 ]]; then wc -l <"$1"; else echo 0; fi; }

say "A server on free loopback ports, with the embedded models"
"$bin/ounce-server" --model code=embedded/codegen-tiny --model shapes=embedded/detr-tiny --listen 127.0.0.1:0 --admin_listen 127.0.0.1:0 \
  --metrics_listen 127.0.0.1:0 --ports_file "$temp/ports.json" >"$temp/server.log" 2>&1 &
server=$!
for ((i = 0; i < 300; ++i)); do
  if [[ -e $temp/ports.json ]] || ! kill -0 "$server" 2>/dev/null; then break; fi
  sleep 0.1
done
cat "$temp/server.log"
[[ -e $temp/ports.json ]] || { echo "demo: the server did not start" >&2; exit 1; }
metrics=$(address metrics)
OUNCE_SERVER=$(address inference)
OUNCE_ADMIN=$(address admin)
export OUNCE_SERVER OUNCE_ADMIN

say "A completion, as it comes"
show generate code 'def read_lines(path):' --max_new_tokens 64 --echo

say "What is served"
show models

say "Memory, as Prometheus sees it"
memory_metrics

say "Quantize it to int8 while another client keeps generating"
keep_generating &
other=$!
for ((i = 0; i < 100; ++i)); do
  if (($(lines "$temp/other.done") > 2)); then break; fi
  sleep 0.1
done
show quantize code linear
sleep 1
kill -TERM "$other"
wait "$other" || true
other=
versions=$(sed -n 's/.*"model_version":\([1-9][0-9]*\).*/\1/p' "$temp/other.json" | sort -n | uniq -c |
  awk '{printf "%s%d by version %s", (NR > 1 ? ", " : ""), $1, $2}')
echo "The other client: $(lines "$temp/other.done") requests answered ($versions), $(lines "$temp/other.failed") failed."
if [[ -e $temp/other.failed ]]; then
  cat "$temp/other.err" >&2
  exit 1
fi

say "The same completion, from the int8 weights"
show generate code 'def read_lines(path):' --max_new_tokens 64 --echo

say "Objects in a picture, found and drawn"
readonly picture=embedded/detr-tiny/examples/shapes-400x300.png drawn=$bin/demo
mkdir -p "$drawn"
show detect shapes "$picture" --draw "$drawn/before.png"

say "Quantize the detector too, and hold it against its floats on two pictures"
show quantize shapes linear --convolutions --pictures "$picture" embedded/detr-tiny/examples/shapes-240x360.png

say "The same picture, from the int8 weights"
show detect shapes "$picture" --draw "$drawn/after.png"

say "Memory now"
memory_metrics

say "Stop"
kill -TERM "$server"
wait "$server"
server=
tail -n 2 "$temp/server.log"
printf '\nLook at the boxes: %s and %s\n' "$drawn/before.png" "$drawn/after.png"
