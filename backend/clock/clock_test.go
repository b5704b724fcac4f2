package clock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestAgeIsTheLongerOneOfTwoClocks(t *testing.T) {
	then := time.Now()
	suspended := then.Add(time.Second).Round(0).Add(time.Hour) // only the wall clock went on
	assert.Equal(t, time.Hour+time.Second, Age(suspended, then).Round(time.Second))
	setBack := then.Add(time.Minute) // both went on
	assert.Equal(t, time.Minute, Age(setBack, then))
}
