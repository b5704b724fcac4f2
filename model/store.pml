/*
 * The token store: the client entry is the only commit point.
 *
 * Two administrators, one for each of two clients, take one custom token for their client and
 * end it again, as often as the bounds allow. Lookups, tidy and an eviction from the engine's
 * cache come in between, at every point. Vault and the engine are killed at every point, too:
 * what is in memory is lost then, and whoever waited for an answer gets none. A write of
 * storage can fail in three ways: it is not done, it is done all the same, or it is done later.
 *
 * A custom token is the hardest one, since its HMAC can come back with another accessor. An
 * issued token takes the same steps, and never comes back.
 *
 * The pages say "step": it is the text in brackets at the end of a comment, and docs/model.md
 * says which function of the engine does it.
 */

#ifndef OPERATIONS
#define OPERATIONS 3 /* of both administrators together */
#endif
#ifndef ACCESSORS
#define ACCESSORS 2  /* times that the token is taken, by both together */
#endif
#ifndef LOOKUPS
#define LOOKUPS 1
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef FAILURES
#define FAILURES 1   /* writes of a client entry that fail */
#endif

#define CLIENTS 2
#define NONE 0       /* no accessor, no pointer, no event, no index */
#define INTENT 100   /* an event that is stored without an index */
#define MISS 101     /* not in the cache */

/* The two events of an accessor. */
#define TAKEN(a) (a)
#define ENDED(a) (ACCESSORS + a)
#define EVENTS (2 * ACCESSORS + 1)

/* Storage, which survives. */
byte pointer_client;          /* token/: from the token's HMAC to a client */
byte pointer_accessor;
byte entry[CLIENTS];          /* client/: the accessor that the client's list has */
byte stored[EVENTS];          /* feed/event/: NONE, INTENT or an index */
byte late[CLIENTS] = MISS;    /* a write of an entry that storage has still to do; MISS: none */

/* The engine's memory, which a crash empties. */
byte boot;                    /* counts the engine's starts */
bool loaded = true;
byte head;                    /* of the feed */
byte index[EVENTS];           /* in the feed's log */
byte cache[CLIENTS] = MISS;
bool client_lock[CLIENTS];    /* held by a writer */
byte client_readers[CLIENTS]; /* hold it shared */
bool pointer_lock;

/* What administrators know. */
bool answered[EVENTS];        /* the request that did it was answered without an error */
bool begun[EVENTS];
bool ended_in_storage[ACCESSORS + 1];
byte operations;              /* that were begun */
byte accessors;               /* that were given */
byte owner[ACCESSORS + 1];    /* the client that took it */
byte under_way[CLIENTS];      /* the accessor that a request is about to commit: it is young */
byte failures;

/* A gateway that follows the feed without any delay: the answer that it holds. */
byte held;
byte held_index;

/* publish gives an event its index, and watchers hear of it [publish]. */
inline publish(e)
{
	atomic {
		head++;
		index[e] = head;
		if
		:: held != NONE && e == ENDED(held) && held_index < head -> held = NONE
		:: else
		fi
	}
}

/* put writes a client entry, in four ways [put]. */
inline put(c, value, failed)
{
	cache[c] = MISS;
	if
	:: atomic { store(c, value); failed = false }
	:: atomic { failures < FAILURES -> failures++; failed = true }
	:: atomic { failures < FAILURES -> failures++; store(c, value); failed = true }
	:: atomic { failures < FAILURES -> failures++; late[c] = value; failed = true }
	fi;
	if
	:: !failed -> cache[c] = value
	:: else
	fi
}

inline store(c, value)
{
	d_step {
		if
		:: entry[c] != NONE && value == NONE -> ended_in_storage[entry[c]] = true
		:: else
		fi;
		entry[c] = value;
		late[c] = MISS
	}
}

/* around runs a write of a client entry between the intent and the event [around]. */
inline around(c, value, e, failed)
{
	stored[e] = INTENT;
	put(c, value, failed);
	publish(e);
	if
	:: late[c] == MISS -> stored[e] = index[e] /* else storage is slow, and this fails, too */
	:: else
	fi
}

/* read_entry reads a client entry for the holder of its lock. The cache may have forgotten it. */
inline read_entry(c, value)
{
	if
	:: atomic { cache[c] != MISS -> value = cache[c] }
	:: atomic { cache[c] = MISS; value = entry[c] }; cache[c] = value
	fi
}

/* An administrator of client c. */
proctype Administrator(byte c)
{
	byte mine;
	byte a;
	byte asked;           /* the accessor whose end was asked for last */
	bool failed;
restart:
	mine = boot;
	{
		do
		:: atomic { loaded && operations < OPERATIONS && (operations > 0 || c == 0) && !client_lock[c] && client_readers[c] == 0 ->
				operations++; client_lock[c] = true
			}
			if
			:: /* take the token [take] */
				atomic { !pointer_lock -> pointer_lock = true };
				if
				:: atomic { accessors < ACCESSORS && !(pointer_accessor != NONE && entry[pointer_client] == pointer_accessor) ->
						accessors++; a = accessors; owner[a] = c; under_way[c] = a; begun[TAKEN(a)] = true
					}
					/* the pointer, before the entry [pointer first] */
					atomic { pointer_client = c; pointer_accessor = a };
					around(c, a, TAKEN(a), failed);
					atomic {
						answered[TAKEN(a)] = !failed;
						under_way[c] = NONE
					}
				:: else /* it is in use */
				fi;
				pointer_lock = false
			:: /* end the token [end] */
				read_entry(c, a);
				if
				:: a == NONE -> /* there is nothing to end, which gateways hear of again [nothing to revoke] */
					if
					:: asked != NONE ->
						stored[ENDED(asked)] = INTENT;
						publish(ENDED(asked));
						stored[ENDED(asked)] = index[ENDED(asked)]
					:: else
					fi;
					assert(held == NONE || owner[held] != c || entry[c] == held) /* promise: no answer outlives the end that Vault has answered */
				:: a != NONE ->
					begun[ENDED(a)] = true;
					asked = a;
					around(c, NONE, ENDED(a), failed);
					if
					:: !failed ->
						/* the pointer of the ended token, if it is still its own [sweep] */
						atomic { !pointer_lock -> pointer_lock = true };
						if
						:: pointer_accessor == a -> pointer_accessor = NONE
						:: else
						fi;
						pointer_lock = false;
						answered[ENDED(a)] = true;
						assert(held == NONE || owner[held] != c || entry[c] == held) /* promise: no answer outlives the end that Vault has answered */
					:: else
					fi
				fi;
				a = NONE
			fi;
			atomic { failed = false; client_lock[c] = false }
		:: operations == OPERATIONS -> break
		od
	} unless { boot != mine };
	atomic {
		if
		:: boot != mine -> under_way[c] = NONE; a = NONE; failed = false; goto restart
		:: else
		fi
	}
}

inline forget(i)
{
	i = 1;
	do
	:: i <= ACCESSORS -> had_ended[i] = false; was_valid[i] = false; i++
	:: else -> i = 0; break
	od
}

/* A lookup: first the feed's head, then storage. */
proctype Lookup()
{
	byte lookups;
	byte mine;
	byte h;
	byte c;
	byte a;
	byte i;
	bool had_ended[ACCESSORS + 1];
	bool was_valid[ACCESSORS + 1];
restart:
	mine = boot;
	{
		do
		:: lookups < LOOKUPS ->
			lookups++;
			atomic {
				loaded;
				/* the head, before storage is read [head first] */
				h = head;
				i = 1;
				do
				:: i <= ACCESSORS ->
					had_ended[i] = answered[ENDED(i)];
					was_valid[i] = answered[TAKEN(i)] && !begun[ENDED(i)];
					i++
				:: else -> break
				od;
				i = 0
			}
			/* the pointer leads to a client [pointer] */
			atomic { a = pointer_accessor; c = pointer_client };
			if
			:: a == NONE
			:: else ->
				/* which must confirm it [confirm] */
				if
				:: atomic { cache[c] != MISS -> a = cache[c] }
				:: atomic { !client_lock[c] -> client_readers[c]++ } /* it misses the cache */
					read_entry(c, a);
					client_readers[c]--
				fi
			fi;
			atomic {
				if
				:: a != NONE ->
					assert(!had_ended[a]); /* promise: a token that Vault has answered as ended is not active, whatever crashes */
					if
					:: index[ENDED(a)] <= h -> held = a; held_index = h
					:: else /* the gateway knows of its end: the answer is overtaken */
					fi;
					assert(!(held == a && answered[ENDED(a)])) /* promise: no answer outlives the end that Vault has answered */
				:: else ->
					i = 1;
					do
					:: i <= ACCESSORS ->
						assert(!(was_valid[i] && !begun[ENDED(i)])); /* promise: a token that Vault has answered is found until somebody ends it */
						assert(!(index[TAKEN(i)] != NONE && index[TAKEN(i)] <= h && answered[TAKEN(i)] && !begun[ENDED(i)])); /* promise: a "no" is older than what makes the token valid */
						i++
					:: else -> break
					od
				fi;
				a = NONE; c = 0; h = 0; forget(i)
			}
		:: lookups == LOOKUPS -> break
		od
	} unless { boot != mine };
	atomic {
		if
		:: boot != mine -> a = NONE; c = 0; h = 0; forget(i); goto restart
		:: else
		fi
	}
}

/* Tidy removes a pointer that no client confirms, unless it is young [tidy]. */
proctype Tidy()
{
	byte mine;
	byte a;
	byte c;
	mine = boot;
	{
		atomic { loaded; a = pointer_accessor; c = pointer_client };
		if
		:: a != NONE && under_way[c] != a && late[c] == MISS ->
			if
			:: entry[c] == a
			:: else ->
				atomic { !pointer_lock -> pointer_lock = true };
				if
				:: pointer_accessor == a -> pointer_accessor = NONE
				:: else
				fi;
				pointer_lock = false
			fi
		:: else
		fi
	} unless { boot != mine }
}

/* Storage does a write that came late. */
active proctype Late()
{
end:
	do
	:: atomic { late[0] != MISS -> store(0, late[0]) }
	:: atomic { late[1] != MISS -> store(1, late[1]) }
	od
}

/* Vault and the engine are killed, start again, and load the feed. */
active proctype Crash()
{
	byte crashes;
	byte e;
end:
	do
	:: crashes < CRASHES ->
		atomic {
			crashes++;
			boot++;
			loaded = false;
			head = head + 1; /* no index is used twice [block] */
			e = 1;
			do
			:: e < EVENTS -> index[e] = (stored[e] == INTENT -> NONE : stored[e]); e++
			:: else -> break
			od;
			cache[0] = MISS; cache[1] = MISS;
			client_lock[0] = false; client_lock[1] = false;
			client_readers[0] = 0; client_readers[1] = 0;
			pointer_lock = false;
			/* storage has done, when another leads, what it does at all */
			if
			:: late[0] != MISS -> store(0, late[0])
			:: else
			fi;
			if
			:: late[1] != MISS -> store(1, late[1])
			:: else
			fi
		}
		/* an event without an index gets one [load] */
		do
		:: atomic { crashes < CRASHES -> break } /* killed while it loads */
		:: atomic {
				e = 1;
				do
				:: e < EVENTS && stored[e] != INTENT -> e++
				:: else -> break
				od
			}
			if
			:: e < EVENTS -> publish(e); stored[e] = index[e]; e = 0
			:: else -> atomic { e = 0; loaded = true; break }
			fi
		od
	od
}

init {
	byte a;
	atomic {
		run Administrator(0); run Administrator(1); run Lookup();
#ifdef TIDY
		run Tidy()
#endif
	};
	/* When nothing happens any more. */
	timeout;
	a = 1;
	do
	:: a <= ACCESSORS ->
		assert(!ended_in_storage[a] || index[ENDED(a)] != NONE); /* promise: every end is on the feed */
		a++
	:: else -> break
	od
}
