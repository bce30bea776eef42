{{/* One Deployment: (dict "root" $ "component" "authz" "values" .Values.authz "ports" (list (dict "name" "port" "appProtocol")), and
     "image", "args", "env" (YAML), as wanted "command", "volumes", "mounts", "init" (YAML lists), "lifecycle", "checksum" (text)) */}}
{{- define "gatehouse.deployment" -}}
{{- $root := .root -}}
{{- $v := .values -}}
{{- include "gatehouse.validate" $root -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "gatehouse.metadata" (dict "root" $root "component" .component "name" .component) | nindent 2 }}
spec:
  {{- if not $v.autoscaling.enabled }}
  replicas: {{ $v.replicas }}
  {{- else }}
  {{- /* Left out, it would fall to 1 where it stood before, until the autoscaler looks. */}}
  {{- with lookup "apps/v1" "Deployment" (include "gatehouse.namespace" $root) (printf "%s-%s" (include "gatehouse.fullname" $root) .component) }}
  replicas: {{ max (int .spec.replicas) (int $v.autoscaling.minReplicas) }}
  {{- end }}
  {{- end }}
  revisionHistoryLimit: {{ $root.Values.revisionHistoryLimit }}
  minReadySeconds: {{ $v.minReadySeconds }}
  {{- with $v.strategy }}
  strategy:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "gatehouse.selectorLabels" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- with $v.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- include "gatehouse.labels" . | nindent 8 }}
      annotations:
        {{- with $v.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        kubectl.kubernetes.io/default-container: {{ .component }}
        {{- with .checksum }}
        # What is mounted and read once: a change of it makes new pods.
        checksum/config: {{ sha256sum . }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "gatehouse.serviceAccountName" $root }}
      automountServiceAccountToken: {{ $root.Values.serviceAccount.automountServiceAccountToken }}
      # A Service called "gateway" would put GATEWAY_… variables into the pod.
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ $v.terminationGracePeriodSeconds }}
      {{- with $v.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- toYaml $root.Values.podSecurityContext | nindent 8 }}
      {{- $init := concat $v.extraInitContainers (fromYamlArray (.init | default "[]")) }}
      {{- with $init }}
      initContainers:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ .image | quote }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          {{- with .command }}
          command:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          args:
            {{- toYaml (concat .args $v.extraArgs) | nindent 12 }}
          ports:
            {{- range .ports }}
            - { name: {{ .name }}, containerPort: {{ .port }} }
            {{- end }}
          {{- with .env }}
          env:
            {{- include "gatehouse.env" (dict "ours" . "extra" $v.extraEnv) | nindent 12 }}
          {{- with $v.envFrom }}
          envFrom:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- end }}
          {{- range $probe := list "startupProbe" "livenessProbe" "readinessProbe" }}
          {{- with index $v $probe }}
          {{ $probe }}:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- end }}
          {{- with $v.lifecycle | default .lifecycle }}
          lifecycle:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          resources:
            {{- toYaml $v.resources | nindent 12 }}
          securityContext:
            {{- toYaml $root.Values.securityContext | nindent 12 }}
          {{- with concat (fromYamlArray (.mounts | default "[]")) $v.extraVolumeMounts }}
          volumeMounts:
            {{- toYaml . | nindent 12 }}
          {{- end }}
        {{- with $v.extraContainers }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with concat (fromYamlArray (.volumes | default "[]")) $v.extraVolumes }}
      volumes:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- range $key := list "nodeSelector" "tolerations" "affinity" }}
      {{- with index $v $key }}
      {{ $key }}:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
      {{- with $v.topologySpreadConstraints }}
      topologySpreadConstraints:
        {{- range . }}
        - {{ toYaml . | nindent 10 | trim }}
          {{- if not .labelSelector }}
          labelSelector:
            matchLabels:
              {{- include "gatehouse.selectorLabels" $ | nindent 14 }}
          {{- end }}
        {{- end }}
      {{- end }}
{{- end -}}

{{/* The volumes and mounts of the route table. */}}
{{- define "gatehouse.routesVolume" -}}
{{- if or .Values.routes.table .Values.routes.existingConfigMap }}
- name: routes
  configMap:
    name: {{ .Values.routes.existingConfigMap | default (printf "%s-routes" (include "gatehouse.fullname" .)) }}
{{- end }}
{{- end -}}

{{- define "gatehouse.routesMount" -}}
{{- if or .Values.routes.table .Values.routes.existingConfigMap }}
- { name: routes, mountPath: /etc/gatehouse/routes, readOnly: true }
{{- end }}
{{- end -}}

{{/* Those of a JWK set: (dict "root" $ "keysKey" "…"). A directory and not a subPath, which would never change. */}}
{{- define "gatehouse.keysVolume" -}}
{{- with .keysKey }}
- name: keys
  secret:
    secretName: {{ include "gatehouse.jwtSecretName" $.root }}
    defaultMode: 288 # 0440
    items: [{ key: {{ . }}, path: keys.json }]
{{- end }}
{{- end -}}

{{- define "gatehouse.keysMount" -}}
{{- if .keysKey }}
- { name: keys, mountPath: /etc/gatehouse/keys, readOnly: true }
{{- end }}
{{- end -}}

{{/* A certificate with its key, and the CA of the other side: (dict "name" "tls" "pair" "<Secret>" "ca" "<Secret>"). One
     volume, so that the kubelet replaces all three at once; the Secret of a CA may hold its key, which stays there. */}}
{{- define "gatehouse.pairVolume" -}}
- name: {{ .name }}
  projected:
    defaultMode: 288 # 0440
    sources:
      - secret: { name: {{ .pair }}, items: [{ key: tls.crt, path: tls.crt }, { key: tls.key, path: tls.key }] }
      - secret: { name: {{ .ca }}, items: [{ key: ca.crt, path: ca.crt }] }
{{- end -}}

{{/* One Service: (dict "root" $ "component" "authz" "name" "authz" "service" .Values.authz.service "ports" list), as wanted "headless" true,
     "labelled" for another component label on the Service itself. */}}
{{- define "gatehouse.service" -}}
{{- $root := .root -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "gatehouse.metadata" (dict "root" $root "component" (.labelled | default .component) "name" .name "annotations" .service.annotations) | nindent 2 }}
spec:
  {{- if .headless }}
  clusterIP: None
  {{- else }}
  type: {{ .service.type }}
  {{- with .service.externalTrafficPolicy }}
  externalTrafficPolicy: {{ . }}
  {{- end }}
  {{- with .service.loadBalancerSourceRanges }}
  loadBalancerSourceRanges:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  selector:
    {{- include "gatehouse.selectorLabels" . | nindent 4 }}
  ports:
    {{- range .ports }}
    - { name: {{ .name }}, port: {{ .service | default .port }}, targetPort: {{ .name }}, appProtocol: {{ .appProtocol }} }
    {{- end }}
{{- end -}}

{{/* Autoscaling and disruption: (dict "root" $ "component" "authz" "values" .Values.authz) */}}
{{- define "gatehouse.scaling" -}}
{{- $root := .root -}}
{{- with .values.autoscaling }}
{{- if .enabled }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "gatehouse.metadata" (dict "root" $root "component" $.component "name" $.component) | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "gatehouse.fullname" $root }}-{{ $.component }}
  minReplicas: {{ .minReplicas }}
  maxReplicas: {{ .maxReplicas }}
  metrics:
    {{- with .targetCPUUtilizationPercentage }}
    - type: ContainerResource
      containerResource:
        name: cpu
        container: {{ $.component }}
        target: { type: Utilization, averageUtilization: {{ . }} }
    {{- end }}
    {{- with .metrics }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .behavior }}
  behavior:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
{{- with .values.podDisruptionBudget }}
{{- if .enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "gatehouse.metadata" (dict "root" $root "component" $.component "name" $.component) | nindent 2 }}
spec:
  {{- if not (eq (toString .minAvailable) "") }}
  minAvailable: {{ .minAvailable }}
  {{- else }}
  maxUnavailable: {{ .maxUnavailable }}
  {{- end }}
  # A pod that is not ready serves nobody: it is never in the way of a drain.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "gatehouse.selectorLabels" $ | nindent 6 }}
{{- end }}
{{- end }}
{{- end -}}
