package toollist

// Names calls each with the name of every tool in a message that has a list of tools, and does
// nothing with other messages.
func Names(message []byte, each func(tool string)) error {
	_, err := Filter(message, func(tool string) bool {
		each(tool)
		return true
	})
	return err
}
