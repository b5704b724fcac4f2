// Package measure has the common parts of the benchmarks: the processes around the
// gateway, the measurement of CPU, memory and files, and the output of figures to files.
package measure
