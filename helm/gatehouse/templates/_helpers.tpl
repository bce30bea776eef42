{{/* The templates here that need more than $ take a dict: "root" $, "component" "authz", … */}}

{{- define "gatehouse.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 48 characters, so that "-authz-headless" still fits in the 63 of a Service. */}}
{{- define "gatehouse.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- else if contains (include "gatehouse.name" .) .Release.Name -}}
{{- .Release.Name | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "gatehouse.name" .) | trunc 48 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "gatehouse.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{/* The DNS name of one of our Services: (dict "root" $ "name" "authz") */}}
{{- define "gatehouse.host" -}}
{{ include "gatehouse.fullname" .root }}-{{ .name }}.{{ include "gatehouse.namespace" .root }}.svc.{{ .root.Values.clusterDomain }}
{{- end -}}

{{- define "gatehouse.selectorLabels" -}}
app.kubernetes.io/name: {{ include "gatehouse.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "gatehouse.labels" -}}
{{- with .root.Values.commonLabels }}
{{- toYaml . }}
{{ end -}}
{{ include "gatehouse.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/part-of: gatehouse
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* The metadata of an object:
     (dict "root" $ "component" "authz" "name" "authz"), and as wanted "full" in the place of that
     name, "namespace", "labels", "annotations". */}}
{{- define "gatehouse.metadata" -}}
name: {{ if .full }}{{ .full }}{{ else }}{{ include "gatehouse.fullname" .root }}{{ with .name }}-{{ . }}{{ end }}{{ end }}
namespace: {{ .namespace | default (include "gatehouse.namespace" .root) }}
labels:
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- include "gatehouse.labels" . | nindent 2 }}
{{- with merge dict (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* One of our images: (dict "root" $ "image" "authz") */}}
{{- define "gatehouse.image" -}}
{{- $i := .root.Values.image -}}
{{- with $i.registry }}{{ . }}/{{ end }}{{ $i.repository }}/{{ .image }}
{{- with index $i.digests .image }}@{{ . }}{{ else }}:{{ $i.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end -}}

{{- define "gatehouse.envoyImage" -}}
{{- with .registry }}{{ . }}/{{ end }}{{ .repository }}{{ with .digest }}@{{ . }}{{ else }}:{{ .tag }}{{ end }}
{{- end -}}

{{/* The port of Envoy's Service. */}}
{{- define "gatehouse.envoyPort" -}}
{{- .Values.envoy.service.port | default (ternary 443 80 (ne .Values.envoy.tls.existingSecret "")) -}}
{{- end -}}

{{- define "gatehouse.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "gatehouse.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Bytes of a memory quantity; empty where it is no whole number of a usual unit. */}}
{{- define "gatehouse.bytes" -}}
{{- $text := toString . -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 -}}
{{- if regexMatch "^[0-9]+(k|M|G|Ki|Mi|Gi)?$" $text -}}
{{- mul (regexFind "^[0-9]+" $text | int64) (get $units (regexReplaceAll "^[0-9]+" $text "")) -}}
{{- end -}}
{{- end -}}
