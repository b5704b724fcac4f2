package main

import "time"

// orphanPoll is how often the plugin looks whether Vault is still there.
const orphanPoll = time.Second

// whenOrphaned calls end once the process that started this one is gone. Vault
// ends its plugins itself, unless it is killed: then the plugin would stay behind
// for good, with nobody to speak to. (Linux could signal that by itself, but at
// the end of the thread that started the plugin, which need not be Vault's end.)
func whenOrphaned(parent func() int, poll time.Duration, end func()) {
	first := parent()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for range ticker.C {
		if parent() != first {
			end()
			return
		}
	}
}
