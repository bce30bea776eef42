# bash drain.sh ADMIN_PORT LEAST MOST
#
# Runs before Envoy is told to stop. Envoy fails its health check, so that the pod
# leaves its Service and every answer ends its connection; after LEAST seconds it
# waits for the requests under way, MOST seconds in all. The image has no HTTP
# client, only bash.
set -u
port=$1 least=$2 most=$3

ask() { # METHOD PATH: prints the answer, head and body
	local answer
	exec 3<>"/dev/tcp/127.0.0.1/$port" || return
	printf '%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n' "$1" "$2" >&3
	IFS= read -r -d '' -t 5 answer <&3
	exec 3<&- 3>&-
	printf '%s' "$answer"
}

busy() { # requests of clients, WebSockets included
	[[ ! $(ask GET /stats?filter=http.edge.downstream_rq_active) =~ downstream_rq_active:\ 0 ]]
}

[[ $(ask POST /healthcheck/fail) == *' 200 '* ]] || echo 'drain: Envoy did not take it' >&2
sleep "$least"
while ((SECONDS < most)) && busy; do
	sleep 1
done
