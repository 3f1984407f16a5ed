{{- define "cairn.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters, so that the names made from it, and what Kubernetes makes from those,
     keep below 63. */}}
{{- define "cairn.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "cairn.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "cairn.shardName" -}}
{{- include "cairn.fullname" . }}-shard
{{- end -}}

{{- define "cairn.routerName" -}}
{{- include "cairn.fullname" . }}-router
{{- end -}}

{{- define "cairn.scheme" -}}
{{- ternary "https" "http" (ne .Values.tls.existingSecret "") -}}
{{- end -}}

{{- define "cairn.serviceAccountName" -}}
{{- if .Values.serviceAccount.name -}}
{{- .Values.serviceAccount.name -}}
{{- else -}}
{{- ternary (include "cairn.fullname" .) "default" .Values.serviceAccount.create -}}
{{- end -}}
{{- end -}}

{{/* What follows a pod's name in the DNS names of the shards. */}}
{{- define "cairn.shardDomain" -}}
{{- printf "%s.%s.svc.%s" (include "cairn.shardName" .) .Release.Namespace .Values.clusterDomain -}}
{{- end -}}

{{- define "cairn.url" -}}
{{- printf "%s://%s.%s.svc.%s:%d" (include "cairn.scheme" .) (include "cairn.fullname" .) .Release.Namespace .Values.clusterDomain (int .Values.port) -}}
{{- end -}}

{{/* One shard a line: sN=URL. */}}
{{- define "cairn.shards" -}}
{{- range $i := until (int .Values.shard.count) -}}
{{- if $i }}{{ "\n" }}{{ end -}}
{{- printf "s%d=%s://%s-%d.%s:%d" $i (include "cairn.scheme" $) (include "cairn.shardName" $) $i (include "cairn.shardDomain" $) (int $.Values.port) -}}
{{- end -}}
{{- end -}}

{{- define "cairn.authEnabled" -}}
{{- if or .Values.auth.existingSecret .Values.auth.apiKeys -}}true{{- end -}}
{{- end -}}

{{- define "cairn.authSecretName" -}}
{{- default (printf "%s-auth" (include "cairn.fullname" .)) .Values.auth.existingSecret -}}
{{- end -}}

{{/* The file of API keys. The cluster's own key is one of them, with the role admin. */}}
{{- define "cairn.apiKeysFile" -}}
admin {{ required "auth.clusterKey is needed with auth.apiKeys: the shards call each other with it" .Values.auth.clusterKey }}
{{ range .Values.auth.apiKeys -}}
{{ .role }}{{ with .collections }}:{{ join "," . }}{{ end }} {{ .key }}
{{ end -}}
{{- end -}}

{{- define "cairn.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}

{{/* The helpers below take (list $ "router"), where the word is the component. */}}
{{- define "cairn.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "cairn.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "cairn.labels" -}}
{{- $root := index . 0 -}}
{{ include "cairn.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end -}}

{{/* A change of the keys restarts the processes, which read them at their start. */}}
{{- define "cairn.podAnnotations" -}}
{{- $root := index . 0 -}}
{{- $annotations := (index $root.Values (index . 1)).podAnnotations -}}
{{- if and (include "cairn.authEnabled" $root) (not $root.Values.auth.existingSecret) }}
checksum/auth: {{ include "cairn.apiKeysFile" $root | sha256sum }}
{{- end }}
{{- with $annotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What all pods have in common, the Jobs' too. Kubernetes' variables for Services are left out:
     those of a Service named "cairn" would begin with CAIRN_, like the program's own. */}}
{{- define "cairn.podCommon" -}}
serviceAccountName: {{ include "cairn.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ int .Values.runAsUser }}
  runAsGroup: {{ int .Values.runAsUser }}
  fsGroup: {{ int .Values.runAsUser }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "cairn.containerCommon" -}}
image: {{ include "cairn.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* Where pods of the component run. */}}
{{- define "cairn.scheduling" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $values := index $root.Values $component -}}
{{- if ne $values.antiAffinity "none" }}
affinity:
  podAntiAffinity:
    {{- if eq $values.antiAffinity "required" }}
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: {{ $values.antiAffinityTopologyKey }}
        labelSelector:
          matchLabels:
            {{- include "cairn.selector" . | nindent 12 }}
    {{- else }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: {{ $values.antiAffinityTopologyKey }}
          labelSelector:
            matchLabels:
              {{- include "cairn.selector" . | nindent 14 }}
    {{- end }}
{{- end }}
{{- with $values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  - {{- toYaml . | nindent 4 }}
    labelSelector:
      matchLabels:
        {{- include "cairn.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Flags of `cairn serve` that routers and shards share. */}}
{{- define "cairn.serveArgs" -}}
{{- $root := index . 0 -}}
- --listen
- {{ printf "%s:%d" $root.Values.listenHost (int $root.Values.port) | quote }}
- --log-level
- {{ $root.Values.logLevel }}
{{- if include "cairn.authEnabled" $root }}
- --api-keys-file
- /etc/cairn/auth/api-keys
- --cluster-key-file
- /etc/cairn/auth/cluster-key
{{- end }}
{{- if $root.Values.tls.existingSecret }}
- --tls-cert
- /etc/cairn/tls/tls.crt
- --tls-key
- /etc/cairn/tls/tls.key
- --ca-file
- /etc/cairn/tls/ca.crt
{{- end }}
{{- range (index $root.Values (index . 1)).extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{/* The process lives; the log is replayed and a map is known. A start that replays a long log is
     given `startupSeconds`, and is not asked for its life before. */}}
{{- define "cairn.probes" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
{{- $scheme := include "cairn.scheme" $root | upper -}}
startupProbe:
  httpGet: {path: /healthz, port: http, scheme: {{ $scheme }}}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: {{ div (add (int $values.startupSeconds) 4) 5 }}
livenessProbe:
  httpGet: {path: /healthz, port: http, scheme: {{ $scheme }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: http, scheme: {{ $scheme }}}
  periodSeconds: 3
  timeoutSeconds: 3
  failureThreshold: 2
{{- end -}}

{{- define "cairn.secretMounts" -}}
{{- if include "cairn.authEnabled" . }}
- name: auth
  mountPath: /etc/cairn/auth
  readOnly: true
{{- end }}
{{- if .Values.tls.existingSecret }}
- name: tls
  mountPath: /etc/cairn/tls
  readOnly: true
{{- end }}
{{- end -}}

{{- define "cairn.secretVolumes" -}}
{{- if include "cairn.authEnabled" . }}
- name: auth
  secret:
    secretName: {{ include "cairn.authSecretName" . }}
    defaultMode: 0440
{{- end }}
{{- if .Values.tls.existingSecret }}
- name: tls
  secret:
    secretName: {{ .Values.tls.existingSecret }}
    defaultMode: 0440
{{- end }}
{{- end -}}

{{/* The pod of a Job that makes the cluster's shards equal to the values'. Takes (list $ "--only-add").
     The work is the cluster's: while a move goes on, a Job that is lost and started again is refused,
     and comes again later. */}}
{{- define "cairn.rebalanceJob" -}}
{{- $root := index . 0 -}}
backoffLimit: 60
activeDeadlineSeconds: {{ int $root.Values.rebalance.activeDeadlineSeconds }}
template:
  metadata:
    labels:
      {{- include "cairn.labels" (list $root "rebalance") | nindent 6 }}
  spec:
    {{- include "cairn.podCommon" $root | nindent 4 }}
    restartPolicy: OnFailure
    containers:
      - name: rebalance
        {{- include "cairn.containerCommon" $root | nindent 8 }}
        args:
          - rebalance
          - to
          {{- range splitList "\n" (include "cairn.shards" $root) }}
          - {{ . }}
          {{- end }}
          - {{ index . 1 }}
          - --wait
          - --url
          - {{ include "cairn.url" $root }}
          {{- if $root.Values.tls.existingSecret }}
          - --ca-file
          - /etc/cairn/tls/ca.crt
          {{- end }}
        {{- if include "cairn.authEnabled" $root }}
        env:
          - name: CAIRN_API_KEY
            valueFrom:
              secretKeyRef:
                name: {{ include "cairn.authSecretName" $root }}
                key: cluster-key
        {{- end }}
        resources:
          {{- toYaml $root.Values.rebalance.resources | nindent 10 }}
        {{- if $root.Values.tls.existingSecret }}
        volumeMounts:
          - name: ca
            mountPath: /etc/cairn/tls
            readOnly: true
        {{- end }}
    {{- if $root.Values.tls.existingSecret }}
    volumes:
      - name: ca
        secret:
          secretName: {{ $root.Values.tls.existingSecret }}
          defaultMode: 0440
          items:
            - key: ca.crt
              path: ca.crt
    {{- end }}
{{- end -}}
