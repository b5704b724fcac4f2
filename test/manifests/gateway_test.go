package manifests

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	pdb "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	psapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// kinds are the types that the gateway's manifests and its chart are made of.
var kinds = map[string]func() any{
	"v1/Namespace":                           func() any { return &core.Namespace{} },
	"v1/ConfigMap":                           func() any { return &core.ConfigMap{} },
	"autoscaling/v2/HorizontalPodAutoscaler": func() any { return &autoscaling.HorizontalPodAutoscaler{} },
	"v1/ServiceAccount":                      func() any { return &core.ServiceAccount{} },
	"v1/Service":                             func() any { return &core.Service{} },
	"apps/v1/Deployment":                     func() any { return &apps.Deployment{} },
	"networking.k8s.io/v1/NetworkPolicy":     func() any { return &networking.NetworkPolicy{} },
	"policy/v1/PodDisruptionBudget":          func() any { return &pdb.PodDisruptionBudget{} },
}

// decode reads an object as Kubernetes does with strict validation: a field that
// the type does not have is an error.
func decode(o *object) (any, error) {
	into := kinds[o.apiVersion()+"/"+o.kind()]()
	return into, yaml.UnmarshalStrict(o.source, into)
}

// set is the gateway's manifests, decoded.
type set struct {
	deployment *apps.Deployment
	service    *core.Service
	account    *core.ServiceAccount
	policy     *networking.NetworkPolicy
	budget     *pdb.PodDisruptionBudget
}

func gatewaySet(t *testing.T) *set {
	t.Helper()
	s := &set{}
	for _, o := range objects(t, "gateway") {
		decoded, err := decode(&o)
		require.NoError(t, err, o.file)
		switch decoded := decoded.(type) {
		case *apps.Deployment:
			s.deployment = decoded
		case *core.Service:
			s.service = decoded
		case *core.ServiceAccount:
			s.account = decoded
		case *networking.NetworkPolicy:
			s.policy = decoded
		case *pdb.PodDisruptionBudget:
			s.budget = decoded
		}
		if o.kind() != "Namespace" {
			require.Equal(t, "mcp", o.fields["metadata"].(map[string]any)["namespace"], o.file)
		}
	}
	return s
}

func TestMistypedFieldsOfTheGatewaysManifestsAreFound(t *testing.T) {
	for _, o := range objects(t, "gateway") {
		if o.kind() != "Deployment" {
			continue
		}
		for _, change := range [][2]string{{"readinessProbe", "readynessProbe"}, {"replicas: 2", "replicas: two"}, {"mountPath", "mount_path"}} {
			broken := o.changed(t, change[0], change[1])
			_, err := decode(&broken)
			require.Error(t, err, change[1])
		}
	}
}

func TestThePartsOfTheGatewayFitTogether(t *testing.T) {
	s := gatewaySet(t)
	pod := s.deployment.Spec.Template
	container := pod.Spec.Containers[0]
	for what, selector := range map[string]*meta.LabelSelector{
		"deployment": s.deployment.Spec.Selector, "policy": &s.policy.Spec.PodSelector, "budget": s.budget.Spec.Selector,
		"service": {MatchLabels: s.service.Spec.Selector},
	} {
		matcher, err := meta.LabelSelectorAsSelector(selector)
		require.NoError(t, err)
		require.True(t, matcher.Matches(labels.Set(pod.Labels)), what)
		require.False(t, matcher.Empty(), what)
	}
	ports := map[string]int32{}
	for _, port := range container.Ports {
		ports[port.Name] = port.ContainerPort
	}
	require.Contains(t, ports, s.service.Spec.Ports[0].TargetPort.String())
	for _, rule := range s.policy.Spec.Ingress {
		require.Contains(t, ports, rule.Ports[0].Port.String())
	}
	for path, probe := range map[string]*core.Probe{"/healthz": container.LivenessProbe, "/readyz": container.ReadinessProbe} {
		require.Equal(t, path, probe.HTTPGet.Path)
		require.Equal(t, "admin", probe.HTTPGet.Port.String())
	}
	require.Equal(t, s.account.Name, pod.Spec.ServiceAccountName)
	require.False(t, *s.account.AutomountServiceAccountToken)
	require.False(t, *pod.Spec.AutomountServiceAccountToken)

	content, err := os.ReadFile(filepath.Join(deploy, "kubernetes", "gateway", "gateway.hcl"))
	require.NoError(t, err)
	file := string(content)
	for name, address := range map[string]string{"https": `"0.0.0.0:8443"`, "admin": `"0.0.0.0:8081"`} {
		require.Contains(t, file, address)
		require.True(t, strings.HasSuffix(address, ":"+strconv.Itoa(int(ports[name]))+`"`), name)
	}
	for _, mount := range container.VolumeMounts {
		require.True(t, mount.ReadOnly, mount.Name)
		if mount.Name != "config" {
			require.Contains(t, file, mount.MountPath+"/")
		}
	}
	token := pod.Spec.Volumes[len(pod.Spec.Volumes)-1].Projected.Sources[0].ServiceAccountToken
	require.Equal(t, "vault", token.Audience)
	require.Contains(t, file, `jwt_file = "/var/run/vault/`+token.Path+`"`)
	drain := 40 * time.Second // drain_delay and drain_timeout
	require.Contains(t, file, `drain_delay = "10s"`)
	require.Contains(t, file, `drain_timeout = "30s"`)
	require.Greater(t, time.Duration(*pod.Spec.TerminationGracePeriodSeconds)*time.Second, drain)
}

// TestThePodMayRunWhereOnlyRestrictedOnesMay: the strictest of Kubernetes' own
// standards, by the code that enforces it.
func TestThePodMayRunWhereOnlyRestrictedOnesMay(t *testing.T) {
	s := gatewaySet(t)
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	require.NoError(t, err)
	restricted := psapi.LevelVersion{Level: psapi.LevelRestricted, Version: psapi.LatestVersion()}
	pod := s.deployment.Spec.Template
	for _, result := range evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec) {
		require.True(t, result.Allowed, "%s: %s", result.ForbiddenReason, result.ForbiddenDetail)
	}
	weaker := pod.Spec.DeepCopy()
	weaker.Containers[0].SecurityContext.AllowPrivilegeEscalation = nil
	allowed := true
	for _, result := range evaluator.EvaluatePod(restricted, &pod.ObjectMeta, weaker) {
		allowed = allowed && result.Allowed
	}
	require.False(t, allowed, "the standard is not enforced by this test")
	require.True(t, *pod.Spec.Containers[0].SecurityContext.ReadOnlyRootFilesystem)
}

func TestKustomizationNamesEveryManifest(t *testing.T) {
	folder := filepath.Join(deploy, "kubernetes", "gateway")
	content, err := os.ReadFile(filepath.Join(folder, "kustomization.yaml"))
	require.NoError(t, err)
	var k struct{ Resources []string }
	require.NoError(t, yaml.Unmarshal(content, &k))
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	require.NoError(t, err)
	var names []string
	for _, file := range files {
		if base := filepath.Base(file); base != "kustomization.yaml" {
			names = append(names, base)
		}
	}
	require.ElementsMatch(t, names, k.Resources)
}
