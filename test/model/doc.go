// Package model checks the models in model/ with spin: each of them keeps its promises within
// its bounds, in every order of events; and with each of the mistakes in model/mutations it
// breaks the promise that the mistake is about. docs/model.md draws the conclusions for the
// code.
//
// It needs spin, a C compiler and patch (scripts/field.sh install model), and is skipped
// without them. If TEST_FIELD is "required", it fails.
package model
