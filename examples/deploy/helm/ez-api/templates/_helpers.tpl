{{- define "ez-api.selector" -}}
app.kubernetes.io/name: ez-api
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ez-api.labels" -}}
{{ include "ez-api.selector" . }}
app.kubernetes.io/component: control-plane
{{- end }}
