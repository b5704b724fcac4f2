package application

import (
	"crypto/sha256"
	"sync"
	"time"
)

// maxSpent bounds the ids that are remembered: those of some 150 assertions a second.
const maxSpent = 100_000

// spentIDs remembers which assertions were shown, until they have expired. Each gateway has
// its own memory: an assertion that is stolen within its ten minutes could be shown at another
// one, where the code or refresh token that belongs with it counts once all the same.
type spentIDs struct {
	mu   sync.Mutex
	ends map[[sha256.Size]byte]time.Time
	next time.Time // of looking for those that have expired
	most int
}

func newSpentIDs() *spentIDs {
	return &spentIDs{ends: make(map[[sha256.Size]byte]time.Time), most: maxSpent}
}

// spend notes an assertion's id, once.
func (s *spentIDs) spend(clientID, id string, now, end time.Time) error {
	// The client_id has no NUL: it names an application that was found.
	key := sha256.Sum256([]byte(clientID + "\x00" + id))
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.ends[key]; ok && now.Before(old) {
		return notAuthentic("The client_assertion was used before: sign another one for each request.")
	}
	s.sweep(now)
	if len(s.ends) >= s.most {
		return &Error{Kind: Unavailable, Message: "Too many assertions are in use.", Advice: "Try again in a minute."}
	}
	s.ends[key] = end
	return nil
}

// sweep forgets ids that have expired: now and then, and whenever there is no room.
func (s *spentIDs) sweep(now time.Time) {
	if len(s.ends) < s.most && now.Before(s.next) {
		return
	}
	s.next = now.Add(time.Minute)
	for key, end := range s.ends {
		if !now.Before(end) {
			delete(s.ends, key)
		}
	}
}
