# bash test.sh HOST PORT
#
# Is a request without a token refused by authz, through Envoy? The body is
# authz's own: Envoy by itself would answer 503.
set -u
exec 3<>"/dev/tcp/$1/$2" || exit 1
printf 'GET /api/v1/query/helm-test HTTP/1.1\r\nHost: %s\r\nX-User-ID: 00000000-0000-4000-8000-000000000000\r\nConnection: close\r\n\r\n' "$1" >&3
IFS= read -r -d '' -t 10 answer <&3
printf '%s\n' "$answer"
[[ $answer == 'HTTP/1.1 401 '* && $answer == *'{"detail":"Not authenticated"}'* ]]
