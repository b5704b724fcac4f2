{{- define "mcp-gateway.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 55 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 55 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "mcp-gateway.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "mcp-gateway.fullname" .) }}
{{- end -}}

{{/* What selects the pods: the name, of which a namespace has one. */}}
{{- define "mcp-gateway.selector" -}}
app.kubernetes.io/name: {{ include "mcp-gateway.fullname" . }}
{{- end -}}

{{- define "mcp-gateway.metadata" -}}
name: {{ include "mcp-gateway.fullname" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "mcp-gateway.selector" . | nindent 2 }}
  app.kubernetes.io/instance: {{ .Release.Name }}
  app.kubernetes.io/managed-by: {{ .Release.Service }}
  helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- end -}}

{{- define "mcp-gateway.image" -}}
{{- $repository := required "image.repository is required: the name of an image that you have built and pushed, without its tag, such as registry.example.com/mcp-gateway" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{ $repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The container port for clients has the name of what they speak. */}}
{{- define "mcp-gateway.port" -}}
{{ ternary "https" "http" .Values.tls.enabled }}
{{- end -}}

{{/* A volume's source, a ConfigMap or a Secret, from {configMap, secret}. */}}
{{- define "mcp-gateway.source" -}}
{{- if .configMap -}}
configMap:
  name: {{ .configMap }}
{{- else -}}
secret:
  secretName: {{ .secret }}
{{- end -}}
{{- end -}}

{{/* Refuses what the schema cannot: values that need or exclude each other. */}}
{{- define "mcp-gateway.check" -}}
{{- $auth := .Values.auth -}}
{{- if and (eq $auth.method "approle") (not $auth.secret) -}}
{{- fail "auth.secret is required for auth.method approle: the name of a Secret with role_id and secret_id" -}}
{{- end -}}
{{- if and (eq $auth.method "token_file") (not $auth.path) -}}
{{- fail "auth.path is required for auth.method token_file: the file in which a Vault Agent keeps its token" -}}
{{- end -}}
{{- if and $auth.wrapped (ne $auth.method "approle") -}}
{{- fail "auth.wrapped belongs to auth.method approle" -}}
{{- end -}}
{{- if and $auth.wrapped (or .Values.autoscaling.enabled (gt (int .Values.replicas) 1)) -}}
{{- fail "auth.wrapped needs replicas: 1 without autoscaling: a secret id can be unwrapped once" -}}
{{- end -}}
{{- if and .Values.tls.enabled (not .Values.tls.secret) -}}
{{- fail "tls.secret is required: the name of a Secret of type kubernetes.io/tls; or say tls.enabled: false where something in front speaks TLS" -}}
{{- end -}}
{{- if and (not .Values.tls.enabled) (or .Values.tls.clientCA.configMap .Values.tls.clientCA.secret) -}}
{{- fail "tls.clientCA needs tls.enabled: true" -}}
{{- end -}}
{{- range $name, $ca := dict "vaultCA" .Values.vaultCA "tls.clientCA" .Values.tls.clientCA -}}
{{- if and $ca.configMap $ca.secret -}}
{{- fail (printf "%s has a configMap and a secret: choose one" $name) -}}
{{- end -}}
{{- end -}}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) -}}
{{- fail "autoscaling.minReplicas is greater than autoscaling.maxReplicas" -}}
{{- end -}}
{{- if not .Values.existingConfigMap -}}
{{- $_ := required "config.vault.address is required: the URL of Vault, such as https://vault.example.com:8200" .Values.config.vault.address -}}
{{- $_ := required "config.listener.public_url is required: the gateway's URL as clients write it, such as https://mcp.example.com" .Values.config.listener.public_url -}}
{{- if not .Values.config.upstream_allow -}}
{{- fail "config.upstream_allow is required: the allowed addresses of MCP servers, such as \"*.mcp-servers.svc.cluster.local\"" -}}
{{- end -}}
{{- end -}}
{{- with .Values.config.stdio -}}
{{- if or .uid_range .user -}}
{{- fail "config.stdio: uid_range and user need root, and the pods of this chart have no such rights; Landlock keeps the children apart" -}}
{{- end -}}
{{- end -}}
{{- end -}}
