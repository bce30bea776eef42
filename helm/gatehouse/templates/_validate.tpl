{{/* What the schema cannot say, or not clearly. Every message says what to do. */}}
{{- define "gatehouse.validate" -}}
{{- $v := .Values -}}
{{- $secrets := dict
  "JWT_SECRET" "jwt.secretKey" "JWT_PRIVATE_KEY" "jwt.privateKeyKey" "JWT_KEYS" "jwt.keysKey" "JWT_KEYS_FILE" "jwt.keysKey"
  "DATABASE_URL" "database.urlKey" "POSTGRES_PASSWORD" "database.passwordKey" "SUPABASE_SERVICE_ROLE_KEY" "supabase.serviceRoleKeyKey" -}}
{{- $tls := dict
  "TLS_CERT_FILE" "envoy.tls" "TLS_KEY_FILE" "envoy.tls" "TLS_REDIRECT_LISTEN" "envoy.tls"
  "AUTHZ_TLS_CERT_FILE" "authzTLS" "AUTHZ_TLS_KEY_FILE" "authzTLS" "AUTHZ_TLS_CLIENT_CA_FILE" "authzTLS"
  "ENVOY_AUTHZ_TLS_CA_FILE" "authzTLS" "ENVOY_AUTHZ_TLS_CERT_FILE" "authzTLS" "ENVOY_AUTHZ_TLS_KEY_FILE" "authzTLS" "ENVOY_AUTHZ_TLS_SERVER_NAME" "authzTLS" -}}
{{- $addresses := list "LISTEN" "ENVOY_ADMIN_LISTEN" "AUTHZ_LISTEN" "AUTHZ_OPS_LISTEN" "LOGIN_LISTEN" "LOGIN_OPS_LISTEN" -}}
{{- range $where, $config := dict "config" $v.config "authz.config" $v.authz.config "login.config" $v.login.config "envoy.config" $v.envoy.config -}}
{{- range $name, $_ := $config -}}
{{- if hasPrefix "GATEWAY_" $name -}}
{{- fail (printf "%s.%s: leave out the prefix GATEWAY_" $where $name) -}}
{{- end -}}
{{- with get $secrets $name -}}
{{- fail (printf "%s.%s would put a secret into the release: keep it in a Secret and name its key in %s" $where $name .) -}}
{{- end -}}
{{- with get $tls $name -}}
{{- fail (printf "%s.%s: name the Secret of the certificate in %s" $where $name .) -}}
{{- end -}}
{{- if has $name $addresses -}}
{{- fail (printf "%s.%s: addresses are the chart's own" $where $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $v.routes.table $v.routes.existingConfigMap -}}
{{- fail "routes.table and routes.existingConfigMap: only one of them" -}}
{{- end -}}
{{- if and (or $v.routes.table $v.routes.existingConfigMap) (hasKey $v.config "ROUTES") -}}
{{- fail "config.ROUTES and a table in routes: only one of them" -}}
{{- end -}}
{{- if and $v.issuers.file $v.issuers.existingConfigMap -}}
{{- fail "issuers.file and issuers.existingConfigMap: only one of them" -}}
{{- end -}}
{{- if and (or $v.issuers.file $v.issuers.existingConfigMap $v.issuers.existingSecret) (or (hasKey $v.config "ISSUERS_FILE") (hasKey $v.authz.config "ISSUERS_FILE") (hasKey $v.login.config "ISSUERS_FILE")) -}}
{{- fail "config.ISSUERS_FILE and a file in issuers: only one of them" -}}
{{- end -}}
{{- if and $v.database.urlKey $v.database.passwordKey -}}
{{- fail "database.passwordKey is for database.urlKey \"\": a URL brings its password with it" -}}
{{- end -}}
{{- /* What a stop takes after the drain: cmd/internal/authzd and logind. */ -}}
{{- range $name, $rest := dict "authz" 6 "login" 17 "envoy" 10 -}}
{{- $c := index $v $name -}}
{{- $least := add (trimSuffix "s" $c.drain | int) $rest -}}
{{- if lt (int $c.terminationGracePeriodSeconds) (int $least) -}}
{{- fail (printf "%s.terminationGracePeriodSeconds is %d: with %s.drain %s it needs %d, or requests under way are cut off" $name (int $c.terminationGracePeriodSeconds) $name $c.drain $least) -}}
{{- end -}}
{{- if and $c.autoscaling.enabled (lt (int $c.autoscaling.maxReplicas) (int $c.autoscaling.minReplicas)) -}}
{{- fail (printf "%s.autoscaling: maxReplicas is less than minReplicas" $name) -}}
{{- end -}}
{{- end -}}
{{- with $v.authzTLS -}}
{{- if and (not .serverSecret) (or .clientCASecret .clientSecret .serverCASecret .serverName) -}}
{{- fail "authzTLS.serverSecret is required with the rest of authzTLS: without a certificate authz takes everybody, in the clear" -}}
{{- end -}}
{{- if and .serverSecret $v.envoy.enabled (not .clientSecret) -}}
{{- fail "authzTLS.clientSecret is required with authzTLS.serverSecret and envoy.enabled: authz refuses an Envoy without a certificate" -}}
{{- end -}}
{{- end -}}
{{- with $v.envoy.tls -}}
{{- if and .redirectPort (not .existingSecret) -}}
{{- fail "envoy.tls.redirectPort leads to https, which envoy.tls.existingSecret turns on" -}}
{{- end -}}
{{- if and .existingSecret (eq (int .redirectPort) (int ($v.envoy.service.port | default 443))) -}}
{{- fail (printf "envoy.tls.redirectPort and envoy.service.port are both %d" (int .redirectPort)) -}}
{{- end -}}
{{- end -}}
{{- if $v.envoy.enabled -}}
{{- $config := merge dict $v.envoy.config $v.config -}}
{{- range list "INGEST_SERVICE_URL" "QUERY_SERVICE_URL" -}}
{{- if not (get $config .) -}}
{{- fail (printf "config.%s is required with envoy.enabled: where Envoy finds the service, such as http://ingest.default.svc:8000" .) -}}
{{- end -}}
{{- end -}}
{{- if not (get (merge dict $v.login.config $v.config) "TRUSTED_PROXIES") -}}
{{- fail "config.TRUSTED_PROXIES is required with envoy.enabled: the network of the pods, such as 10.244.0.0/16. Without it login takes Envoy for the one client of everybody, and throttles all together" -}}
{{- end -}}
{{- else if and $v.networkPolicy.enabled (not $v.networkPolicy.ingressFrom) -}}
{{- fail "networkPolicy.ingressFrom is required without envoy.enabled: the peers that your Envoy is, or nobody reaches authz and login" -}}
{{- end -}}
{{- end -}}
