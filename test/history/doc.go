// Package history judges what tests have seen of the system while parts of it failed.
//
// A [Book] keeps what the engine was asked and what it answered, with the times of both.
// [Book.Check] has a linearizability checker compare that with a specification of a token's
// life: there must be an order of all requests, each one done at a moment between its
// sending and its answer, in which every answer is right. A request whose answer was lost
// may have been done at any time after its sending, or never.
//
// A gateway answers from memory, and is late by design. [Reading] is what it answered to one
// token, and [Promise.Judge] says whether it was too late.
package history
