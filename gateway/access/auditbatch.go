package access

// batch is the lines of one write, and those who wait for it. All of it is
// guarded by lineWriter.mu until it is settled.
type batch struct {
	lines    []byte
	first    uint64        // number of the first line
	led      bool          // a request has undertaken to write it
	settled  bool          // err is known
	finished chan struct{} // closed when it is; nil while nobody waits
	err      error
}

// wait returns the channel to wait on.
func (b *batch) wait() <-chan struct{} {
	if b.finished == nil {
		b.finished = make(chan struct{})
	}
	return b.finished
}

// settle tells everybody who waits. The first result counts.
func (b *batch) settle(err error) {
	if b.settled {
		return
	}
	b.settled, b.err = true, err
	if b.finished != nil {
		close(b.finished)
	}
}

// reusable returns the buffer's space unless it grew out of proportion.
func reusable(buffer []byte) []byte {
	const most = 1 << 20
	if cap(buffer) > most {
		return nil
	}
	return buffer[:0]
}
