#!/usr/bin/env bash
# A bridge of mosquitto between its own broker and outlive ($OUTLIVE, on $PORTS: see ports.py), `topic # both 2`, all settings
# as they are by default: bridge.sh 3.1|3.1.1|5.0
# Both brokers are killed with -9 while messages wait, both ways; each arrives once, and nothing goes round in circles.
set -euo pipefail
case $1 in
    3.1) version=mqttv31 kept=yes ;;
    3.1.1) version=mqttv311 kept=yes ;;
    # By 5.0 mosquitto asks for no session expiry, so nothing waits here for it.
    5.0) version=mqttv50 kept= ;;
    *) echo "unknown version $1" >&2; exit 2 ;;
esac
export PATH="$PATH:/usr/sbin"
# By 3.x a bridge cannot say that it takes no more than 20 QoS 2 messages at once.
messages=20
dir=$(mktemp -d)
outlive=
mosquitto=
readers=()
cleanup() {
    for pid in "${readers[@]}" $mosquitto $outlive; do kill -9 "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$dir"
}
trap cleanup EXIT

# until_true WHAT COMMAND..: asks until it is so, for 30 s at most.
until_true() {
    local what=$1 end=$((SECONDS + 30))
    shift
    until "$@"; do
        if [ $SECONDS -ge $end ]; then
            echo "never: $what" >&2
            tail -n 20 "$dir"/*.log >&2
            return 1
        fi
        read -rt 0.02 <> <(:) || true
    done
}
answers() { python3 - "$1" <<'PY'
import sys, urllib.request
try:
    sys.exit(urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/readyz", timeout=5).status != 200)
except OSError:
    sys.exit(1)
PY
}
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

read -r ours admin theirs _ <<<"$PORTS"
start_outlive() {
    "$OUTLIVE" run --data-dir "$dir/data" --listen "127.0.0.1:$ours" --set "admin.listen=127.0.0.1:$admin" \
        >>"$dir/outlive.log" 2>&1 &
    outlive=$!
    until_true "outlive is ready" answers "$admin"
}
cat >"$dir/mosquitto.conf" <<CONF
listener $theirs 127.0.0.1
allow_anonymous true
user root
persistence true
persistence_location $dir/
autosave_interval 1
autosave_on_changes true
log_type all
log_dest file $dir/mosquitto.log
connection bridge
address 127.0.0.1:$ours
bridge_protocol_version $version
cleansession false
remote_clientid bridge
restart_timeout 1 1
topic # both 2
CONF
start_mosquitto() {
    mosquitto -c "$dir/mosquitto.conf" >>"$dir/mosquitto.log" 2>&1 &
    mosquitto=$!
    until_true "mosquitto listens" listens "$theirs"
}
end() { kill -9 "$1"; wait "$1" 2>/dev/null || true; }

# What a client of the broker on port $1 gets goes to $dir/got.$1: "QOS RETAIN TOPIC PAYLOAD".
read_from() {
    mosquitto_sub -p "$1" -V mqttv311 -c -i "reader.$1" -q 2 -t "#" -t "\$SYS/broker/connection/#" \
        -F '%q %r %t %p' >>"$dir/got.$1" 2>>"$dir/readers.log" &
    readers+=($!)
    until_true "a reader subscribes" published "$1" subscribed "$1"
}
# publish PORT NAME FIRST: so many messages of each QoS.
publish() {
    local qos
    for qos in 1 2; do
        seq "$3" "$(($3 + messages - 1))" |
            mosquitto_pub -p "$1" -V mqttv311 -i "writer.$1" -q "$qos" -t "$2/$qos" -l
    done
}
got() { grep -q "$2" "$dir/got.$1"; }
published() { mosquitto_pub -p "$1" -q 1 -t "$2" -m "$3" && got "$1" " $2 $3\$"; }
# The bridge brings what is published here.
is_back() { mosquitto_pub -p "$ours" -q 1 -t back -m "$1" && got "$theirs" " back $1\$"; }
# publish_kept FIRST: here, at once if it waits for the bridge, or else when that is back.
publish_kept() { if [ -n "$kept" ]; then publish "$ours" ours "$1"; fi; }
publish_late() {
    until_true "the bridge is back" is_back "$1"
    if [ -z "$kept" ]; then publish "$ours" ours "$1"; fi
}
# arrived PORT NAME FIRST: whether all of these messages have come there, with either QoS.
arrived() {
    local qos number
    for qos in 1 2; do
        for ((number = $3; number < $3 + messages; number++)); do
            got "$1" "^$qos 0 $2/$qos $number\$" || return 1
        done
    done
}
# Nothing came twice: not because it went round in circles, and with QoS 2 not at all.
once() {
    local twice
    twice=$(grep -E "$2" "$dir/got.$1" | sort | uniq -d)
    if [ -n "$twice" ]; then echo "twice at $1: $twice" >&2; return 1; fi
}

touch "$dir/got.$ours" "$dir/got.$theirs"
start_outlive
start_mosquitto
read_from "$ours"
read_from "$theirs"
until_true "the bridge says that it is there" got "$ours" "\$SYS/broker/connection/bridge/state 1\$"

publish "$ours" ours 1
publish "$theirs" theirs 1
for port in "$ours" "$theirs"; do
    until_true "ours arrives at $port" arrived "$port" ours 1
    until_true "theirs arrives at $port" arrived "$port" theirs 1
    once "$port" "(ours|theirs)/[12] "
done

# What is retained on one side is so on the other.
is_retained() { mosquitto_sub -p "$1" -q 1 -t "$2" -F '%r %p' -C 1 -W 1 2>>"$dir/readers.log" | grep -qx "1 $2"; }
mosquitto_pub -p "$ours" -q 1 -r -t from/ours -m from/ours
mosquitto_pub -p "$theirs" -q 1 -r -t from/theirs -m from/theirs
for topic in from/ours from/theirs; do
    until_true "$topic is retained on both sides" is_retained "$ours" "$topic"
    until_true "$topic is retained on both sides" is_retained "$theirs" "$topic"
done

# Their broker dies, and then ours, while messages wait here.
end "$mosquitto"
until_true "the will of the bridge says that it is gone" got "$ours" "\$SYS/broker/connection/bridge/state 0\$"
publish_kept 101
end "$outlive"
start_outlive
start_mosquitto
publish_late 101
until_true "what waited here arrives there" arrived "$theirs" ours 101

# Ours dies while messages wait there.
end "$outlive"
publish "$theirs" theirs 101
start_outlive
until_true "what waited there arrives here" arrived "$ours" theirs 101
once "$ours" "(ours|theirs)/2 "
once "$theirs" "(ours|theirs)/2 "

# Both die with messages on their way. Nobody can say what theirs has forgotten: it may have again what it had, not less.
publish_kept 201
end "$outlive"
end "$mosquitto"
start_mosquitto
start_outlive
publish_late 201
until_true "what was acknowledged here arrives there" arrived "$theirs" ours 201
once "$ours" "ours/2 "
publish "$theirs" theirs 301
until_true "the bridge goes on" arrived "$ours" theirs 301
once "$ours" "theirs/2 3..\$"
