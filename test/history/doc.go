// Package history judges the answers of the system while parts of it failed.
//
// A [Book] has the requests to the engine and their answers, with the times of both.
// [Book.Check] has a linearizability checker compare that with a specification of a token's
// life: there must be an order of all requests, each one done at a moment between its
// sending and its answer, in which every answer is right. A request whose answer was lost
// may have been done at any time after its sending, or never.
//
// A gateway answers from memory, and is late by design. A [Reading] has its answers to one
// token, and [Promise.Judge] decides whether they were too late.
package history
