{{/* A value in HCL. JSON's strings are HCL's, but for what begins a template there. */}}
{{- define "mcp-gateway.value" -}}
{{ toRawJson . | replace "${" "$${" | replace "%{" "%%{" }}
{{- end -}}

{{/* Settings and blocks of a map in HCL. A block that takes a name is one level deeper. */}}
{{- define "mcp-gateway.body" -}}
{{- $lines := list -}}
{{- range $name, $value := . -}}
{{- if kindIs "map" $value -}}
{{- if has $name (list "auth" "upstream" "login" "machine" "application") -}}
{{- range $label, $body := $value -}}
{{- $lines = append $lines (printf "%s %s {\n%s\n}" $name (include "mcp-gateway.value" $label) (include "mcp-gateway.body" ($body | default dict) | indent 2)) -}}
{{- end -}}
{{- else -}}
{{- $lines = append $lines (printf "%s {\n%s\n}" $name (include "mcp-gateway.body" $value | indent 2)) -}}
{{- end -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- $lines = append $lines (printf "%s = %s" $name (include "mcp-gateway.value" $value)) -}}
{{- end -}}
{{- end -}}
{{ join "\n" $lines }}
{{- end -}}

{{/* gateway.hcl: what belongs to Kubernetes, and .Values.config. */}}
{{- define "mcp-gateway.config" -}}
{{- $vault := dict -}}
{{- if or .Values.vaultCA.configMap .Values.vaultCA.secret -}}
{{- $_ := set $vault "ca_cert_file" (printf "/etc/vault-ca/%s" .Values.vaultCA.key) -}}
{{- end -}}
{{- if .Values.vaultClientCertificate.secret -}}
{{- $_ := set $vault "client_cert_file" "/etc/vault-client/tls.crt" -}}
{{- $_ := set $vault "client_key_file" "/etc/vault-client/tls.key" -}}
{{- end -}}
{{- $auth := dict -}}
{{- with .Values.auth -}}
{{- if .mount -}}{{- $_ := set $auth "mount" .mount -}}{{- end -}}
{{- if has .method (list "kubernetes" "jwt") -}}
{{- $_ := set $auth "role" .role -}}
{{- $_ := set $auth "jwt_file" "/var/run/vault/token" -}}
{{- else if eq .method "approle" -}}
{{- $_ := set $auth "role_id_file" "/var/run/vault/role_id" -}}
{{- $_ := set $auth "secret_id_file" "/var/run/vault/secret_id" -}}
{{- if .wrapped -}}{{- $_ := set $auth "secret_id_wrapped" true -}}{{- end -}}
{{- else -}}
{{- $_ := set $auth "path" .path -}}
{{- end -}}
{{- $_ := set $vault "auth" (dict .method $auth) -}}
{{- end -}}
{{- $listener := dict "address" "0.0.0.0:8443" "allowed_hosts" (prepend (.Values.config.listener.allowed_hosts | default list) (printf "%s.%s.svc" (include "mcp-gateway.fullname" .) .Release.Namespace)) -}}
{{- if .Values.tls.enabled -}}
{{- $_ := set $listener "tls_cert_file" "/etc/mcp-gateway-tls/tls.crt" -}}
{{- $_ := set $listener "tls_key_file" "/etc/mcp-gateway-tls/tls.key" -}}
{{- with .Values.tls.clientCA -}}
{{- if or .configMap .secret -}}{{- $_ := set $listener "tls_client_ca_file" (printf "/etc/mcp-gateway-client-ca/%s" .key) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- $all := merge (dict "vault" $vault "listener" $listener "admin" (dict "address" "0.0.0.0:8081")) (deepCopy .Values.config) -}}
{{- if and $all.stdio (not $all.stdio.home_dir) -}}{{- $_ := set $all.stdio "home_dir" "/var/lib/mcp-gateway/children" -}}{{- end -}}
{{ include "mcp-gateway.body" $all }}
{{- with .Values.extraConfig }}

{{ . | trim }}
{{- end }}
{{- end -}}
