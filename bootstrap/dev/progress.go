package dev

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progress shows a user the current step, and that it still goes on.
type progress struct {
	out io.Writer
}

// step runs one piece of work under its name.
func (p *progress) step(name string, work func() error) error {
	fmt.Fprintln(p.out, name)
	stop := make(chan struct{})
	var ticking sync.WaitGroup
	ticking.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for seconds := 1; ; seconds++ {
			select {
			case <-stop:
				return
			case <-tick.C:
				fmt.Fprintf(p.out, "  %d s …\n", seconds)
			}
		}
	})
	err := work()
	close(stop)
	ticking.Wait()
	return err
}
