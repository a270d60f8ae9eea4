#!/usr/bin/env bash
# Follows one session as server-sent events, with nothing but curl: prints one frame (JSON) per line.
#
#     examples/reader.sh my-session                      # everything that happens in it from now on
#     examples/reader.sh my-session http://host:8080 | jq -rj 'select(.type == "text_delta").content'
#     curl --json '{"type":"message","session_id":"my-session","content":"hi"}' localhost:8080/frames
#
# The `id:` of an event is the cursor. When the stream breaks, the next one goes on exactly there.
set -u
session=${1:?usage: reader.sh session [url]}
url=${2:-http://127.0.0.1:8080}/api/sessions/$session/events?create=true
cursor=
while true; do
    while IFS= read -r line; do
        case $line in
            id:*) cursor=${line#id: } ;;
            data:*) printf '%s\n' "${line#data: }" ;;
        esac
    done < <(curl -sSNf ${cursor:+-H "Last-Event-ID: $cursor"} "$url")
    sleep 1.5 # what the stream's `retry:` says
done
