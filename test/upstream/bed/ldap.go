package bed

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/process"
	"vault-plugin-secrets-mcp/test/harness"
)

// LDAPRole is the role of ldap/creds.
const LDAPRole = "mcp"

// The directory's suffix and administrator.
const (
	suffix    = "dc=example,dc=com"
	ldapAdmin = "cn=admin," + suffix
)

// LDAP is OpenLDAP's server on the loopback, with a folder of its own.
type LDAP struct {
	// URL is its address.
	URL string

	t        testing.TB
	password string
	dir      string
}

// StartLDAP starts slapd with a directory that has a folder for people, and nobody in it.
func StartLDAP(t testing.TB, h *harness.Harness) *LDAP {
	t.Helper()
	Required(t)
	address := harness.FreeAddress(t)
	l := &LDAP{URL: "ldap://" + address, t: t, password: rand.Text(), dir: t.TempDir()}
	h.Secret(l.password)
	data := filepath.Join(l.dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	settings := l.file("slapd.conf", fmt.Sprintf(`include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
suffix %q
rootdn %q
rootpw %s
directory %s
`, suffix, ldapAdmin, l.password, data))
	people := l.file("people.ldif", "dn: "+suffix+"\nobjectClass: dcObject\nobjectClass: organization\no: example\ndc: example\n\n"+
		"dn: ou=people,"+suffix+"\nobjectClass: organizationalUnit\nou: people\n")
	if out, err := exec.CommandContext(t.Context(), administrators("slapadd"), "-f", settings, "-l", people).CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v: %s", err, out)
	}
	server := h.Run(process.Spec{Name: "slapd", Path: administrators("slapd"), Args: []string{"-f", settings, "-h", l.URL, "-d", "0"}})
	h.Eventually("slapd answers", func() error {
		if err := server.Err(); err != nil {
			t.Fatal(err)
		}
		return l.Login(ldapAdmin, l.password)
	})
	return l
}

func (l *LDAP) file(name, content string) string {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// Login is nil where the directory knows somebody by that password.
func (l *LDAP) Login(dn, password string) error {
	file, err := os.CreateTemp(l.dir, "password")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	if _, err := file.WriteString(password); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	out, err := exec.CommandContext(l.t.Context(), "ldapwhoami", "-x", "-H", l.URL, "-D", dn, "-y", file.Name(), "-o", "nettimeout=5").CombinedOutput()
	if err != nil {
		return fmt.Errorf("ldapwhoami: %w: %s", err, out)
	}
	return nil
}

// Person is the name in the directory of somebody whom Vault has made.
func Person(username string) string { return "cn=" + username + ",ou=people," + suffix }

// SetUpLDAP mounts Vault's LDAP engine, which runs as a plugin in a process of its own, with a
// role whose people live for ttl.
func SetUpLDAP(t testing.TB, h *harness.Harness, l *LDAP, ttl, maxTTL time.Duration) {
	t.Helper()
	const plugin = "vault-plugin-secrets-openldap"
	program := os.Getenv("TEST_OPENLDAP")
	if program == "" {
		t.Fatal("TEST_OPENLDAP must name the plugin: scripts/tool.sh openldap prints its path")
	}
	h.Plugin(plugin, program)
	h.Write("sys/mounts/ldap", harness.Map{"type": plugin})
	h.Write("ldap/config", harness.Map{
		"binddn": ldapAdmin, "bindpass": l.password, "url": l.URL, "schema": "openldap", "userdn": "ou=people," + suffix,
	})
	h.Write("ldap/role/"+LDAPRole, harness.Map{
		"creation_ldif": "dn: " + Person("{{.Username}}") + "\nobjectClass: person\ncn: {{.Username}}\nsn: {{.Username}}\nuserPassword: {{.Password}}\n",
		"deletion_ldif": "dn: " + Person("{{.Username}}") + "\nchangetype: delete\n",
		"default_ttl":   ttl.String(), "max_ttl": maxTTL.String(),
	})
}

// administrators is the path of a program that Debian keeps off the PATH of others.
func administrators(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	return "/usr/sbin/" + name
}
