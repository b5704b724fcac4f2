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

// reuse returns an empty batch with the buffer of this one, unless that grew out of proportion.
// It is this one if nobody waits for it.
func (b *batch) reuse() *batch {
	const most = 1 << 20
	lines := b.lines
	if cap(lines) > most {
		lines = nil
	}
	if b.finished != nil {
		return &batch{lines: lines[:0]}
	}
	*b = batch{lines: lines[:0]}
	return b
}
