// Package usage records the use by clients, by the day, and reports it to Vault once a
// minute.
//
// A repeated use on the same day costs a request one or two reads of a map: no lock, and no
// memory. The first use on a day is a row that waits in a list for the next report. A report
// has a bound; further rows go with the next one. A row stays in the list until Vault has it.
// So during an outage of Vault a gateway loses nothing of today and yesterday. A gateway that
// drains reports the rest; one that dies loses the waiting rows.
//
// A client can call by any name, so only names in the servers' own lists count, which pass
// through the gateway. A call by another name is counted as a call of the tool "".
package usage
