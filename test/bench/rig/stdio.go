package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
)

// serveStdio answers each line with one of the same size.
func serveStdio(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		var request struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
		}
		if err := json.Unmarshal(lines.Bytes(), &request); err != nil {
			return err
		}
		if request.ID == nil {
			continue
		}
		answer := bytes.Replace(result(lines.Bytes()), []byte(`"id":1`), append([]byte(`"id":`), request.ID...), 1)
		if _, err := out.Write(append(answer, '\n')); err != nil {
			return err
		}
	}
	return lines.Err()
}
