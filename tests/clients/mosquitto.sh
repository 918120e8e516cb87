#!/usr/bin/env bash
# mosquitto_sub and mosquitto_pub against outlive ($OUTLIVE, on $PORTS: see ports.py): mosquitto.sh 3.1|3.1.1|5.0
set -euo pipefail
case $1 in
    3.1) flags=(-V mqttv31) kept=(-c) ;;
    3.1.1) flags=(-V mqttv311) kept=(-c) ;;
    5.0) flags=(-V mqttv5) kept=(-c -x 3600) ;;
    *) echo "unknown version $1" >&2; exit 2 ;;
esac
dir=$(mktemp -d)
broker=
reader=
cleanup() {
    for pid in $reader $broker; do kill -9 "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$dir"
}
trap cleanup EXIT

# until_true WHAT COMMAND..: asks until it is so, for 30 s at most.
until_true() {
    local what=$1 end=$((SECONDS + 30))
    shift
    until "$@"; do
        if [ $SECONDS -ge $end ]; then echo "never: $what" >&2; tail -n 20 "$dir/log" >&2; return 1; fi
        read -rt 0.02 <> <(:) || true
    done
}
ready() { python3 - "$admin" <<'PY'
import sys, urllib.request
try:
    sys.exit(urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/readyz", timeout=5).status != 200)
except OSError:
    sys.exit(1)
PY
}
read -r port admin _ <<<"$PORTS"
# libmosquitto 2.0 counts a QoS 2 message that is sent again after a reconnect twice against its receive maximum of 20, and
# then ends with "protocol error": half of it leaves room.
start() {
    "$OUTLIVE" run --data-dir "$dir/data" --listen "127.0.0.1:$port" --set "admin.listen=127.0.0.1:$admin" \
        --set session.inflight_max=10 >>"$dir/log" 2>&1 &
    broker=$!
    until_true "the broker is ready" ready
}
crash() { kill -9 "$broker"; wait "$broker" 2>/dev/null || true; start; }

# publish QOS FIRST LAST
publish() { seq "$2" "$3" | mosquitto_pub -p "$port" "${flags[@]}" -i writer -q "$1" -t "t/$1" -l; }
subscribe() { mosquitto_sub -p "$port" "${flags[@]}" "${kept[@]}" -i reader -q 2 -t 't/+' -F '%q %p' "$@"; }
lines() { wc -l <"$dir/got"; }
holds() { grep -qx "$1" "$dir/got"; }
has_lines() { [ "$(lines)" -ge "$1" ]; }

start
subscribe -E
publish 1 1 200
publish 2 1 200
crash
publish 1 201 400
publish 2 201 400
: >"$dir/got"
# A reader whose connection dies with the broker, more than once, and who comes back by itself. It is not killed itself:
# mosquitto_sub acknowledges before it prints.
subscribe >>"$dir/got" &
reader=$!
until_true "the first messages arrive" has_lines 1
crash
until_true "all that waited arrives" holds "2 400"
crash
publish 1 401 500
publish 2 401 500
until_true "the last QoS 1 message arrives" holds "1 500"
until_true "the last QoS 2 message arrives" holds "2 500"
for qos in 1 2; do
    missing=$(comm -13 <(grep "^$qos " "$dir/got" | cut -d' ' -f2 | sort -u) <(seq 1 500 | sort))
    if [ -n "$missing" ]; then echo "QoS $qos, missing: $missing" >&2; exit 1; fi
done
again=$(grep '^2 ' "$dir/got" | sort | uniq -d)
if [ -n "$again" ]; then echo "QoS 2, twice: $again" >&2; exit 1; fi
