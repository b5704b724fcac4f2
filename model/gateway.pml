/*
 * A gateway's cache of one token, with a lookup and a long poll in flight.
 *
 * The engine is its two promises (store.pml, feed.pml): a lookup's answer has the head that the
 * feed had before storage was read, and the feed's answers have every change after the
 * gateway's position, in order, or are a reset. Every message may take any time, and may be
 * lost. Gateways share nothing, so one is enough.
 *
 * Time goes in steps: max_stale is MAX_STALE of them, negative_ttl NEGATIVE_TTL.
 */

#ifndef CHANGES
#define CHANGES 2
#endif
#ifndef TIME
#define TIME 3
#endif
#ifndef EPOCHS
#define EPOCHS 1       /* 2: the mount is made again while it runs */
#endif
#define MAX_STALE 1
#define NEGATIVE_TTL 1
#define NEVER 99
#define AGE(at) (now - (at))
#define LATER(a, b) ((a) > (b) -> (a) : (b))

/* What changes do. An accessor that was ended never comes back; a client that was disabled may. */
#define END 1
#define ADOPT 2
#define DISABLE 3
#define ENABLE 4
#define ENDS(kind) (kind == END)
#define ADMITS(kind) (kind != END)

byte now;

/* The engine. */
byte epoch = 1;
byte head = 1;
byte accessor;                /* of the token's last record; 0: there was none */
bool listed;                  /* the client's entry has it */
bool disabled;
byte kind[CHANGES + 3];       /* of the change with that index */
byte concerns[CHANGES + 3];   /* its accessor */
#define VALID (listed && !disabled)

/* What has been answered: since when the token is not valid, or valid, and by which change. */
byte invalid_since = NEVER;
byte valid_since = NEVER;
byte told_index;

/* The gateway: its grant, its negative answer, its position, its recent changes. */
bool granted;
byte g_accessor; byte g_epoch; byte g_index; byte g_sent; bool g_stale;
bool refused;
byte refused_at;
byte p_epoch; byte p_applied; byte p_floor; byte p_sent; bool p_synced;
byte p_arrived;               /* when the feed's last answer came */
byte r_floor; byte r_negatives; byte r_index; byte r_accessor;

/* A request that lives on the grant. */
bool taken;                   /* it has taken the grant, and does not hold it yet */
bool holds;
bool was_stale;               /* at the last sweep */

#define TRACKED (g_epoch == p_epoch && g_index >= p_floor)
/* lastConfirmed [confirmed] */
#define CONFIRMED (TRACKED && p_sent > g_sent -> p_sent : g_sent)
#define USABLE (granted && !g_stale && (TRACKED || (g_epoch != p_epoch && !p_synced)))
#define FRESH (USABLE && AGE(CONFIRMED) < MAX_STALE)

/* heard: the gateway has applied the change by which the token is what it is. */
#define HEARD (p_epoch == epoch && p_applied >= told_index)

/* end_entry ends the grant, and the request that lives on it [end]. */
inline end_entry()
{
	granted = false; g_stale = false; g_accessor = 0; g_index = 0; g_epoch = 0; g_sent = 0;
	taken = false; holds = false; was_stale = false
}

/* A change: first storage, then the feed, then the answer to the administrator. */
proctype Engine()
{
	byte k;
	byte n;
	do
	:: n < CHANGES ->
		atomic {
			n++;
			if
			:: listed -> k = END; listed = false; valid_since = NEVER
			:: !listed -> k = ADOPT; accessor++; listed = true; invalid_since = NEVER
			:: listed && !disabled -> k = DISABLE; disabled = true; valid_since = NEVER
			:: listed && disabled -> k = ENABLE; disabled = false; invalid_since = NEVER
			fi
		};
		atomic {
			head++; kind[head] = k; concerns[head] = accessor; told_index = head;
			if
			:: VALID -> valid_since = now
			:: else -> invalid_since = now
			fi;
			k = 0
		}
	:: n == CHANGES -> break
#if EPOCHS > 1
	:: atomic { epoch == 1 -> /* the mount is made again: its tokens have ended, its indexes begin again */
			epoch = 2; head = 1; listed = false; disabled = false; accessor++; told_index = 1;
			invalid_since = now; valid_since = NEVER
		}
#endif
	od
}

/* A lookup: at most one at a time for a token. The gateway may make one for any reason. */
proctype Lookup()
{
	byte sent;
	byte l_epoch;
	byte l_index;
	byte l_accessor; /* 0: it says no */
end:
	do
	:: atomic { now < TIME; sent = now };              /* when the request is sent [sent] */
		atomic { l_epoch = epoch; l_index = head };    /* the head */
		if
		:: atomic { l_epoch == epoch -> l_accessor = (VALID -> accessor : 0) } /* then storage */
		:: atomic { l_epoch != epoch -> l_epoch = 0; l_index = 0; goto end }   /* that mount is gone */
		fi;
		atomic {
			if
			:: true -> goto lost
			:: true
			fi;
			/* publish [publish] */
			if
			:: l_epoch != p_epoch && p_synced -> goto lost /* another history */
			:: l_epoch == p_epoch && (l_index < r_floor
				|| (l_accessor != 0 && l_accessor == r_accessor && l_index < r_index)
				|| (l_accessor == 0 && l_index < r_negatives)) -> goto lost /* overtaken */
			:: else
			fi;
			if
			:: l_accessor == 0 ->
				if
				:: granted -> end_entry()
				:: else
				fi;
				refused = true; refused_at = sent;
				assert(!(valid_since != NEVER && HEARD)) /* promise: nobody is refused by a "no" that a known change has overtaken */
			:: else ->
				refused = false; refused_at = 0;
				if
				:: granted && g_accessor != l_accessor -> end_entry() /* another record of the token */
				:: else
				fi;
				granted = true; g_accessor = l_accessor; g_epoch = l_epoch; g_index = l_index;
				g_sent = sent; g_stale = false; was_stale = false
			fi;
lost:			sent = 0; l_epoch = 0; l_index = 0; l_accessor = 0
		}
	od
}

/* The long poll. */
proctype Feed()
{
	byte sent;
	bool reset;
	byte from;
	byte upto;
	byte a_epoch;
	byte i;
end:
	do
	:: atomic { now < TIME -> sent = now; from = p_applied }; /* when it is sent, and from where [poll] */
		if
		:: atomic { /* Vault answers */
				a_epoch = epoch; upto = head;
				if
				:: p_epoch != epoch -> reset = true
				:: p_epoch == epoch
				:: p_epoch == epoch -> reset = true /* the engine does not know the position any more */
				fi
			}
			if
			:: atomic { /* and the answer comes: apply [apply] */
					if
					:: reset || a_epoch != p_epoch || upto < p_applied ->
						r_floor = upto; r_negatives = 0; r_index = 0; r_accessor = 0;
						refused = false; refused_at = 0;
						p_epoch = a_epoch; p_floor = upto
					:: else ->
						i = from + 1;
						do
						:: i <= upto ->
							/* one change [apply one] */
							if
							:: r_index != 0 -> r_floor = LATER(r_floor, r_index) /* the ring is full [forget] */
							:: else
							fi;
							r_index = i; r_accessor = concerns[i];
							if
							:: ADMITS(kind[i]) -> r_negatives = i; refused = false; refused_at = 0
							:: else
							fi;
							if
							:: granted && g_accessor == concerns[i] && !(g_epoch == p_epoch && g_index >= i) ->
								if
								:: ENDS(kind[i]) -> end_entry(); refused = true; refused_at = now
								:: else -> g_stale = true /* it is to be confirmed */
								fi
							:: else
							fi;
							i++
						:: else -> break
						od
					fi;
					p_applied = upto; p_sent = sent; p_synced = true; p_arrived = now
				}
			:: p_synced = false /* it is lost */
			fi
		:: p_synced = false /* nobody answers [lost] */
		fi;
		atomic { sent = 0; reset = false; from = 0; upto = 0; a_epoch = 0; i = 0 }
	od
}

/* A request: it takes the grant, and then holds it. */
proctype Request()
{
end:
	do
	:: atomic { FRESH && !holds ->
			assert(!(invalid_since != NEVER && AGE(invalid_since) >= MAX_STALE)); /* promise: a token that was answered as ended is admitted no longer than max_stale */
			assert(!(invalid_since != NEVER && HEARD)); /* promise: once its end is known, it is not admitted */
			taken = true
		}
		atomic { /* from here on every end finds it [link] */
			if
			:: taken -> holds = true; taken = false
			:: else /* the entry has ended: it asks again */
			fi
		}
	:: atomic { holds -> holds = false; was_stale = false } /* it is over */
	:: atomic { !FRESH && refused && AGE(refused_at) < NEGATIVE_TTL -> /* it is refused, from memory [known state] */
			assert(!(valid_since != NEVER && HEARD)); /* promise: nobody is refused by a "no" that a known change has overtaken */
			assert(!(valid_since != NEVER && AGE(LATER(valid_since, p_arrived)) >= NEGATIVE_TTL)) /* promise: a "no" is remembered no longer than negative_ttl */
		}
	:: atomic { granted && !holds -> end_entry() } /* the entry makes room for others [evict] */
	od
}

/* Time. In every step the gateway looks at the grants of live requests [inspect]. */
proctype Clock()
{
end:
	do
	:: atomic { now < TIME ->
			now++;
			if
			:: granted && holds && (AGE(CONFIRMED) >= MAX_STALE || (!USABLE && was_stale)) -> end_entry()
			:: else -> was_stale = holds && !USABLE
			fi;
			assert(!(holds && invalid_since != NEVER && AGE(invalid_since) > MAX_STALE)) /* promise: a request that is under way when its token ends is cut, after max_stale at the latest */
		}
	od
}

init {
	atomic {
		kind[1] = ENABLE;
		if
		:: accessor = 1; listed = true
		:: true
		fi;
		run Engine(); run Lookup(); run Feed(); run Request(); run Clock()
	}
}
