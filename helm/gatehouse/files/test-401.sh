# bash test.sh HOST PORT [tls]
#
# Is a request without a token refused by authz, through Envoy? The body is
# authz's own: Envoy by itself would answer 503. Over TLS, whose certificate it is
# says no more here, where HOST is the name in the cluster.
set -u
request="GET /api/v1/query/helm-test HTTP/1.1\r\nHost: $1\r\nX-User-ID: 00000000-0000-4000-8000-000000000000\r\nConnection: close\r\n\r\n"
if [[ ${3-} == tls ]]; then
	answer=$(printf %b "$request" | timeout 10 openssl s_client -quiet -alpn http/1.1 -connect "$1:$2")
else
	exec 3<>"/dev/tcp/$1/$2" || exit 1
	printf %b "$request" >&3
	IFS= read -r -d '' -t 10 answer <&3
fi
printf '%s\n' "$answer"
[[ $answer == 'HTTP/1.1 401 '* && $answer == *'{"detail":"Not authenticated"}'* ]]
