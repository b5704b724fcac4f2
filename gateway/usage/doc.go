// Package usage notes what clients use, by the day, and reports it to Vault once a minute.
//
// What is used again on the same day costs a request one or two reads of a map: no lock, and
// no memory. What is used for the first time on a day waits in a list for the next report. A
// report has a bound; what is beyond it goes with the next one. It stays in the list until
// Vault has it, so a gateway that Vault does not answer loses nothing of today and yesterday,
// one that drains reports the rest, and one that dies loses what waits.
//
// The names of tools come from clients, so they do not count. Those in the servers' lists do,
// which pass through the gateway: a call by another name is one of the tool "".
package usage
