{{- define "ez-api.selector" -}}
app.kubernetes.io/name: ez-api
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ez-api.labels" -}}
{{ include "ez-api.selector" . }}
app.kubernetes.io/component: control-plane
{{- end }}

{{- define "ez-api.pod" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "ez-api.container" -}}
image: {{ printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- if or .Values.ca.configMap .Values.ca.secret }}
env: # the image's own, and beside them those of ca
  - {name: SSL_CERT_DIR, value: "/etc/ssl/certs:/etc/ez-api/ca"}
{{- end }}
{{- end }}

{{- define "ez-api.mounts" -}}
{{- if or .Values.ca.configMap .Values.ca.secret }}
- {name: ca, mountPath: /etc/ez-api/ca, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "ez-api.volumes" -}}
{{- if or .Values.ca.configMap .Values.ca.secret }}
- name: ca
  projected:
    sources:
      {{- with .Values.ca.configMap }}
      - configMap: {name: {{ . | quote }}}
      {{- end }}
      {{- with .Values.ca.secret }}
      - secret: {name: {{ . | quote }}}
      {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
