package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"

	"github.com/ez-api/ez-api/httpapi/metrics"
)

// root is the directory of the repository, and files that of what is tested, as seen from this package.
const (
	root  = "../.."
	files = root + "/examples/deploy/"
)

// TestManifests holds the plain manifests equal to what the chart makes of its defaults.
func TestManifests(t *testing.T) {
	want := command(t, "helm", "template", "ez-api", files+"helm/ez-api")
	if diff := cmp.Diff(want, read(t, files+"kubernetes/ez-api.yaml")); diff != "" {
		t.Errorf("kubernetes/ez-api.yaml is not what helm template ez-api helm/ez-api prints (-want +got):\n%s", diff)
	}
}

// TestChart renders the chart with everything in it, and has Kubernetes' types read it.
func TestChart(t *testing.T) {
	command(t, "helm", "lint", "--strict", files+"helm/ez-api")
	all := objects(t, command(t, "helm", "template", "x", files+"helm/ez-api", "--set", strings.Join([]string{
		"ingress.enabled=true", "ingress.host=ez.example.com", "ingress.tlsSecret=tls", "ingress.className=nginx",
		"settings.EZ_LOG_RETENTION=30d", "settings.EZ_CONSOLE=false", "image.pullSecrets={registry}", "replicas=3",
		"serviceMonitor.enabled=true", "serviceMonitor.labels.release=prometheus", "spool.storageClassName=fast",
		"nodeSelector.disk=ssd", "migrate.secret=owner", "migrate.role=ezapi",
		"ca.configMap=our-ca", "extraVolumes[0].name=client", "extraVolumes[0].secret.secretName=client",
		"extraVolumeMounts[0].name=client", "extraVolumeMounts[0].mountPath=/client",
	}, ",")))
	if got := slices.Sorted(maps.Keys(all)); !slices.Equal(got, []string{
		"ConfigMap x", "Ingress x", "Job x-migrate", "PodDisruptionBudget x", "Service x", "Service x-pods",
		"ServiceMonitor x",
		"StatefulSet x",
	}) {
		t.Errorf("rendered: %q", got)
	}

	set := all["StatefulSet x"].(*apps.StatefulSet)
	pod := set.Spec.Template.Spec
	server := pod.Containers[0]
	asUser, kept := *pod.SecurityContext.RunAsNonRoot, set.Spec.PersistentVolumeClaimRetentionPolicy
	for what, ok := range map[string]bool{
		"Kubernetes must not set EZ_API_PORT":          pod.EnableServiceLinks != nil && !*pod.EnableServiceLinks,
		"it must not run as root":                      asUser && *server.SecurityContext.ReadOnlyRootFilesystem,
		"the spool must be a volume of the pod's own":  set.Spec.VolumeClaimTemplates[0].Name == server.VolumeMounts[0].Name,
		"the volume must be where the image keeps all": server.VolumeMounts[0].MountPath == dataOfImage(t),
		"the spool must outlive the release":           kept.WhenDeleted == "Retain",
		"secrets must come from the secret":            server.EnvFrom[0].SecretRef.Name == "ez-api",
		"settings must come from the config map":       server.EnvFrom[1].ConfigMapRef.Name == "x",
		"it must listen until nobody is sent to it":    server.Lifecycle.PreStop.Sleep.Seconds == 5,
		"it must be asked for readiness":               server.ReadinessProbe.HTTPGet.Path == "/readyz",
		"the service must find the pods":               selects(all["Service x"].(*core.Service).Spec.Selector, set),
		"the pods' service must find them":             selects(all["Service x-pods"].(*core.Service).Spec.Selector, set),
	} {
		if !ok {
			t.Error(what)
		}
	}
	old := objects(t, command(t, "helm", "template", "x", files+"helm/ez-api", "--kube-version", "1.29.0"))
	if l := old["StatefulSet x"].(*apps.StatefulSet).Spec.Template.Spec.Containers[0].Lifecycle; l != nil {
		t.Errorf("Kubernetes 1.29 knows no sleep: %+v", l)
	}
	job := all["Job x-migrate"].(*batch.Job)
	migrate := job.Spec.Template.Spec.Containers[0]
	if hook := job.Annotations["helm.sh/hook"]; hook != "pre-install,pre-upgrade" ||
		!slices.Equal(migrate.Args, []string{"-migrate", "ezapi"}) || migrate.EnvFrom[0].SecretRef.Name != "owner" ||
		migrate.Image != server.Image || selects(all["Service x"].(*core.Service).Spec.Selector, &apps.StatefulSet{
		Spec: apps.StatefulSetSpec{Template: job.Spec.Template},
	}) {
		t.Errorf("the job that migrates: %+v", job)
	}
	for what, pod := range map[string]core.PodSpec{"server": pod, "migrate": job.Spec.Template.Spec} {
		mounts := map[string]string{}
		for _, m := range pod.Containers[0].VolumeMounts {
			mounts[m.Name] = m.MountPath
		}
		env := pod.Containers[0].Env
		if len(pod.Volumes) != 2 || pod.Volumes[0].Projected.Sources[0].ConfigMap.Name != "our-ca" ||
			pod.Volumes[1].Secret.SecretName != "client" || mounts["client"] != "/client" || mounts["ca"] == "" ||
			len(env) != 1 || env[0].Name != "SSL_CERT_DIR" || !strings.HasSuffix(env[0].Value, ":"+mounts["ca"]) {
			t.Errorf("%s: volumes %+v, mounted at %q, with %+v", what, pod.Volumes, mounts, env)
		}
	}
	if got := all["ConfigMap x"].(*core.ConfigMap).Data; got["EZ_LOG_RETENTION"] != "30d" || got["EZ_CONSOLE"] != "false" {
		t.Errorf("settings: %q", got)
	}
}

func selects(labels map[string]string, set *apps.StatefulSet) bool {
	for name, value := range labels {
		if set.Spec.Template.Labels[name] != value {
			return false
		}
	}
	return len(labels) > 0
}

// TestCompose: the server has a volume where the image keeps all.
func TestCompose(t *testing.T) {
	var compose struct {
		Services map[string]struct{ Volumes []string }
	}
	if err := yaml.Unmarshal([]byte(read(t, root+"/compose.yaml")), &compose); err != nil {
		t.Fatal(err)
	}
	if got := compose.Services["server"].Volumes; !slices.Contains(got, "spool:"+dataOfImage(t)) {
		t.Errorf("volumes of the server: %q", got)
	}
}

// dataOfImage returns where the image keeps what lasts, and its temporary files: it has no /tmp.
func dataOfImage(t *testing.T) string {
	t.Helper()
	env := regexp.MustCompile(`(?m)^ENV .*\bEZ_DATA_DIR=(\S+) .*\bTMPDIR=(\S+)`)
	m := env.FindStringSubmatch(read(t, root+"/Dockerfile"))
	if m == nil || m[1] != m[2] {
		t.Fatalf("the image must have one directory for EZ_DATA_DIR and TMPDIR; its environment has %q", m)
	}
	return m[1]
}

// TestChartTakesNoSecret: the settings of the chart are those of the server without what may be a
// secret, for which they take the name of a file, and without what the chart itself decides.
func TestChartTakesNoSecret(t *testing.T) {
	var schema struct {
		Properties struct {
			Settings struct{ PropertyNames struct{ Enum []string } }
		}
	}
	if err := json.Unmarshal([]byte(read(t, files+"helm/ez-api/values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	var want []string
	// A test of the server holds this table equal to what it reads.
	row := regexp.MustCompile("(?m)^\\| `(EZ_[A-Z_]+)`( \\*)? \\|")
	rows := row.FindAllStringSubmatch(read(t, root+"/docs/settings.md"), -1)
	for _, row := range rows {
		switch name, secret := row[1], row[2] != ""; {
		case secret:
			want = append(want, name+"_FILE")
		case !slices.Contains([]string{"EZ_DATA_DIR", "EZ_API_PORT", "EZ_API_ADDR"}, name):
			want = append(want, name)
		}
	}
	if diff := cmp.Diff(want, schema.Properties.Settings.PropertyNames.Enum); diff != "" || len(want) < 30 {
		t.Errorf("settings of the chart, of %d in docs/settings.md (-want +got):\n%s", len(rows), diff)
	}
}

// TestChartRefuses sends values that cannot work. What is said names the value.
func TestChartRefuses(t *testing.T) {
	for _, tc := range []struct{ set, said string }{
		{"replicas=0", "/replicas"}, {"replica=3", "'replica'"}, {"secret=", "/secret"},
		{"ingress.enabled=true", "/ingress/host"},
		{"settings.EZ_LOG_QUEUE=200000", "/settings/EZ_LOG_QUEUE"}, {"settings.log_level=debug", "'log_level'"},
		{"settings.EZ_ADMIN_TOKEN=x", "'EZ_ADMIN_TOKEN'"}, {"settings.EZ_DB_KEYS=x", "'EZ_DB_KEYS'"},
		{"settings.EZ_LOG_STORE=x", "'EZ_LOG_STORE'"}, {"settings.EZ_API_PORT=1", "'EZ_API_PORT'"},
		{"spool.size=big", "/spool/size"}, {"extraVolumes[0].name=spool", "/extraVolumes/0/name"},
		{"extraVolumeMounts[0].name=x", "'mountPath'"},
		{"migrate.secret=owner", "migrate.role is missing"}, {"migrate.role=ezapi", "migrate.secret is missing"},
	} {
		cmd := exec.CommandContext(t.Context(), "helm", "template", "x", files+"helm/ez-api", "--set", tc.set)
		if out, err := cmd.CombinedOutput(); err == nil || !bytes.Contains(out, []byte(tc.said)) {
			t.Errorf("--set %s: %v\n%s", tc.set, err, out)
		}
	}
}

func TestAlerts(t *testing.T) {
	command(t, "promtool", "check", "rules", files+"prometheus/alerts.yaml")
	command(t, "promtool", "test", "rules", files+"prometheus/alerts_test.yaml")
	rules := read(t, files+"prometheus/alerts.yaml")
	mustExist(t, "alerts.yaml", rules)

	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr, For string }
		}
	}
	if err := yaml.Unmarshal([]byte(rules), &file); err != nil {
		t.Fatal(err)
	}
	page := map[string][2]string{} // metrics and conditions of the page of operators
	row := regexp.MustCompile("(?m)^\\| `(EZAPI\\w+)` \\| (.*) \\| (.*) \\|$")
	for _, m := range row.FindAllStringSubmatch(read(t, root+"/docs/operations.md"), -1) {
		page[m[1]] = [2]string{m[2], m[3]}
	}
	phrases := map[string]string{"": "", "30s": "for half a minute", "1m": "for a minute", "2m": "for two minutes",
		"5m": "for five minutes", "10m": "for ten minutes"}
	for _, rule := range file.Groups[0].Rules {
		said := page[rule.Alert]
		if diff := cmp.Diff(names(rule.Expr), names(said[0])); diff != "" {
			t.Errorf("%s: metrics of alerts.yaml and docs/operations.md (-rule +page):\n%s", rule.Alert, diff)
		}
		condition, _, _ := strings.Cut(said[1], ":")
		condition, _, _ = strings.Cut(condition, ". ")
		last := ""
		if i := strings.LastIndex(condition, " for "); i >= 0 {
			last, _, _ = strings.Cut(condition[i+1:], ";")
		}
		if phrase, known := phrases[rule.For]; !known || last != phrase {
			t.Errorf("%s waits for %q, and docs/operations.md says %q", rule.Alert, rule.For, said[1])
		}
		delete(page, rule.Alert)
	}
	if len(page) > 0 {
		t.Errorf("docs/operations.md has alerts that alerts.yaml has not: %q", slices.Sorted(maps.Keys(page)))
	}
}

// TestDashboard has promtool read each expression of the dashboard, as a rule that records it.
func TestDashboard(t *testing.T) {
	text := read(t, files+"grafana/ez-api.json")
	mustExist(t, "ez-api.json", text)
	var board struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(text), &board); err != nil {
		t.Fatal(err)
	}
	filled := strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*")
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	seen := map[int]bool{}
	for _, panel := range board.Panels {
		if seen[panel.ID] || panel.Title == "" {
			t.Errorf("panel %d %q: it needs a number of its own, and a title", panel.ID, panel.Title)
		}
		seen[panel.ID] = true
		for i, target := range panel.Targets {
			fmt.Fprintf(&rules, "  - {record: 'panel:%d_%d', expr: %q}\n", panel.ID, i, filled.Replace(target.Expr))
		}
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, "promtool", "check", "rules", file)
}

var name = regexp.MustCompile(`\bezapi_[a-z_]+`)

// names returns the metrics that a text names, without what a histogram adds.
func names(text string) (all []string) {
	for _, n := range name.FindAllString(text, -1) {
		all = append(all, strings.TrimSuffix(strings.TrimSuffix(n, "_bucket"), "_count"))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// mustExist compares with what the collector of the server has.
func mustExist(t *testing.T, file, text string) {
	t.Helper()
	described := make(chan *prometheus.Desc)
	go func() {
		defer close(described)
		metrics.New(nil).Describe(described)
	}()
	has := map[string]bool{}
	for d := range described {
		has[name.FindString(d.String())] = true
	}
	for _, n := range names(text) {
		if !has[n] {
			t.Errorf("%s names %s, which the server does not have", file, n)
		}
	}
	if len(names(text)) < 20 {
		t.Errorf("%s names %d metrics: is the test's expression wrong?", file, len(names(text)))
	}
}

// objects decodes manifests strictly: a field that Kubernetes does not know fails.
func objects(t *testing.T, text string) map[string]any {
	t.Helper()
	all := map[string]any{}
	for part := range strings.SplitSeq(text, "\n---\n") {
		var is struct {
			Kind     string
			Metadata struct{ Name string }
		}
		if err := yaml.Unmarshal([]byte(part), &is); err != nil {
			t.Fatalf("%v:\n%s", err, part)
		}
		var into any
		switch is.Kind {
		case "Job":
			into = new(batch.Job)
		case "StatefulSet":
			into = new(apps.StatefulSet)
		case "Service":
			into = new(core.Service)
		case "ConfigMap":
			into = new(core.ConfigMap)
		case "PodDisruptionBudget":
			into = new(policy.PodDisruptionBudget)
		case "Ingress":
			into = new(networking.Ingress)
		case "ServiceMonitor":
			into = new(map[string]any) // of the Prometheus operator
		default:
			t.Fatalf("a kind that this test does not know: %q\n%s", is.Kind, part)
		}
		if err := yaml.UnmarshalStrict([]byte(part), into); err != nil {
			t.Errorf("%s %s: %v\n%s", is.Kind, is.Metadata.Name, err, part)
		}
		all[is.Kind+" "+is.Metadata.Name] = into
	}
	return all
}

// command returns what a program prints, and fails with what it says.
func command(t *testing.T, program string, args ...string) string {
	t.Helper()
	var said strings.Builder
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", program, strings.Join(args, " "), err, said.String(), out)
	}
	return string(out)
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
