package backend

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// TestADurationThatIsNoneIsRefusedWithAnExampleWhereverOneIsTaken asks every path that
// takes a duration, so that none is forgotten.
func TestADurationThatIsNoneIsRefusedWithAnExampleWhereverOneIsTaken(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{"allowed_servers": "a"})
	names := strings.NewReplacer("^", "", "$", "", "(?P<name>[^/]+)", "c")
	fields := 0
	for _, p := range e.b.Paths {
		for name, field := range p.Fields {
			if e.b.types[name] == framework.TypeDurationSecond {
				require.Equal(t, framework.TypeDurationSecond, field.Type, "%s of %s has the name of a duration and is none", name, p.Pattern)
			}
			if field.Type != framework.TypeDurationSecond {
				continue
			}
			fields++
			path, operation := names.Replace(p.Pattern), logical.Operation(logical.UpdateOperation)
			if path == "changes" {
				operation = logical.ReadOperation
			}
			for value, shown := range map[any]string{"30days": "30days", "-1h": "-1h", json.Number("1.5"): "1.5", "d": "d"} {
				require.Equal(t, `field `+name+`: "`+shown+`" is not a valid duration: write 720h, 30d or a number of seconds`,
					e.refused(operation, path, data{name: value}), path)
			}
			if name != fieldWait { // which is not stored
				for _, value := range []any{"900ms", "1.5s", 0.5} {
					require.Contains(t, e.refused(operation, path, data{name: value}), "field "+name+": ", path)
				}
			}
		}
	}
	require.Contains(t, e.refused(logical.UpdateOperation, "clients/new", data{"token_ttl": "30days"}), "not a valid duration", "a client that is created")
	require.Greater(t, fields, 8)
	e.write("config", data{"default_ttl": "30d", "max_ttl": "1440h", "grace_period": json.Number("90")})
	conf := e.read("config")
	require.EqualValues(t, 30*24*3600, conf["default_ttl"])
	require.EqualValues(t, 90, conf["grace_period"])
}
