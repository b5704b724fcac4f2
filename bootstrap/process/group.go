package process

import (
	"sync"
	"syscall"
	"time"
)

// killGroup kills the remaining processes of a process group; an empty group is not an
// error. The id of a leader that was reaped stays taken while its group has members.
func killGroup(leader int) { _ = syscall.Kill(-leader, syscall.SIGKILL) }

// Group is a set of processes that stop together, the last started first.
// Its zero value is ready for use.
type Group struct {
	mu        sync.Mutex
	processes []*Process
	ended     chan *Process
}

// Start runs a program as a member of the group.
func (g *Group) Start(spec Spec) (*Process, error) {
	p, err := Start(spec)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	g.processes = append(g.processes, p)
	ended := g.channel()
	g.mu.Unlock()
	go func() {
		<-p.Done()
		select {
		case ended <- p:
		default: // one was reported already, and one is enough
		}
	}()
	return p, nil
}

// Ended delivers the first member that ends, whether by itself or not.
func (g *Group) Ended() <-chan *Process {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.channel()
}

func (g *Group) channel() chan *Process {
	if g.ended == nil {
		g.ended = make(chan *Process, 1)
	}
	return g.ended
}

// Stop ends every member that still runs, the last started first, each with the
// given grace, and calls each before it does.
func (g *Group) Stop(grace time.Duration, each func(*Process)) {
	g.mu.Lock()
	processes := g.processes
	g.processes = nil
	g.mu.Unlock()
	for i := len(processes) - 1; i >= 0; i-- {
		if each != nil && processes[i].Running() {
			each(processes[i])
		}
		processes[i].Stop(grace)
	}
}
