{{/* Environment variables. Every template here gives a YAML list. */}}

{{- define "gatehouse.secretEnv" -}}
- name: {{ .name }}
  valueFrom: { secretKeyRef: { name: {{ .secret }}, key: {{ .key }} } }
{{- end -}}

{{- define "gatehouse.jwtSecretName" -}}
{{- coalesce .Values.jwt.existingSecret .Values.existingSecret | required "existingSecret (or jwt.existingSecret) is required: the name of a Secret that holds the signing secret under the key jwt.secretKey" -}}
{{- end -}}

{{/* (dict "root" $ "secret" "" "key" "") where another Secret or key than the services' is meant. */}}
{{- define "gatehouse.databaseEnv" -}}
{{- $v := .root.Values -}}
{{- $key := coalesce .key $v.database.urlKey -}}
{{- if or $key $v.database.passwordKey -}}
{{- $secret := coalesce .secret $v.database.existingSecret $v.existingSecret | required "existingSecret (or database.existingSecret) is required: the name of a Secret that holds the database's URL under the key database.urlKey" -}}
{{- if $key -}}
{{ include "gatehouse.secretEnv" (dict "name" "GATEWAY_DATABASE_URL" "secret" $secret "key" $key) }}
{{- else -}}
{{ include "gatehouse.secretEnv" (dict "name" "GATEWAY_POSTGRES_PASSWORD" "secret" $secret "key" $v.database.passwordKey) }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* config, and over it what one component has of its own. Numbers come as floats: 20 must not turn into 2e+01. */}}
{{- define "gatehouse.configEnv" -}}
{{- range $name, $value := merge dict (.own | default dict) .root.Values.config }}
{{- if kindIs "float64" $value }}{{ if eq $value (floor $value) }}{{ $value = int64 $value }}{{ end }}{{ end }}
- { name: GATEWAY_{{ $name }}, value: {{ $value | toString | quote }} }
{{- end }}
{{- end -}}

{{/* For authz and Envoy, which go by the same table. */}}
{{- define "gatehouse.routesEnv" -}}
{{- if or .Values.routes.table .Values.routes.existingConfigMap }}
- { name: GATEWAY_ROUTES, value: /etc/gatehouse/routes/{{ .Values.routes.key }} }
{{- end }}
{{- end -}}

{{- define "gatehouse.tracingEnv" -}}
{{- if .Values.tracing }}
{{- if not (hasKey .Values.tracing "RESOURCE_ATTRIBUTES") }}
- name: POD_NAME
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
- { name: OTEL_RESOURCE_ATTRIBUTES, value: "k8s.namespace.name={{ include "gatehouse.namespace" . }},k8s.pod.name=$(POD_NAME)" }
{{- end }}
{{- range $name, $value := .Values.tracing }}
- { name: OTEL_{{ $name }}, value: {{ $value | toString | quote }} }
{{- end }}
{{- end }}
{{- end -}}

{{/* What authz and login have in common: (dict "root" $ "own" .Values.authz.config "keysKey" "…") */}}
{{- define "gatehouse.serviceEnv" -}}
{{- $jwt := .root.Values.jwt -}}
{{- with $jwt.secretKey }}
{{ include "gatehouse.secretEnv" (dict "name" "GATEWAY_JWT_SECRET" "secret" (include "gatehouse.jwtSecretName" $.root) "key" .) }}
{{- end }}
{{- with $jwt.publicKeyKey }}
{{ include "gatehouse.secretEnv" (dict "name" "GATEWAY_JWT_PUBLIC_KEY" "secret" (include "gatehouse.jwtSecretName" $.root) "key" .) }}
{{- end }}
{{- if .keysKey }}
- { name: GATEWAY_JWT_KEYS_FILE, value: /etc/gatehouse/keys/keys.json }
{{- end }}
{{- if include "gatehouse.issuersVolume" .root }}
- { name: GATEWAY_ISSUERS_FILE, value: /etc/gatehouse/issuers/{{ .root.Values.issuers.key }} }
{{- end }}
{{ include "gatehouse.databaseEnv" (dict "root" .root) }}
{{- include "gatehouse.configEnv" . }}
{{- include "gatehouse.tracingEnv" .root }}
{{- end -}}

{{/* One variable a name; the last wins, so that extraEnv can replace ours: (dict "ours" "<YAML>" "extra" list) */}}
{{- define "gatehouse.env" -}}
{{- $all := concat (fromYamlArray .ours) .extra -}}
{{- $last := dict -}}
{{- range $all }}{{ $_ := set $last .name . }}{{ end -}}
{{- $list := list -}}
{{- range $all -}}
{{- with get $last .name }}{{ $list = append $list . }}{{ end -}}
{{- $_ := unset $last .name -}}
{{- end -}}
{{- toYaml $list -}}
{{- end -}}
