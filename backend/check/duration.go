package check

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/hashicorp/go-secure-stdlib/parseutil"
)

// Duration reads a duration in every form that Vault takes: 720h, 30d, a number of
// seconds; nothing is 0.
func Duration(value any) (time.Duration, error) {
	d, err := parseutil.ParseDurationSecond(value)
	if err != nil || d < 0 {
		if number, ok := value.(json.Number); ok {
			value = number.String()
		}
		return 0, fmt.Errorf("%q is no duration: write 720h, 30d or a number of seconds", fmt.Sprint(value))
	}
	return d, nil
}
